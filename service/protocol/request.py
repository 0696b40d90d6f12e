"""From the bytes of an inference request to the rows of a model: its JSON, its binary tensors, the raw form.

It knows the tensors' bytes and says what is wrong with them; what the JSON says is described.py's. It does not know
routes, or models that run.
https://github.com/kserve/open-inference-protocol, with Triton's extensions binary_tensor_data and classification.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.asked import SlowRequestError
from service.errors import InputError, MalformedError
from service.inputs.images import count_pixels, read_image
from service.manifest import Manifest
from service.protocol.datatypes import BYTES, Tensor, from_bytes, from_json
from service.protocol.described import OUTPUTS, Described, Output, describe, describe_again
from service.words import shown

LENGTH = re.compile(r"[0-9]{1,12}")


class InferRequest(NamedTuple):
    """What was asked: the rows float32 [N, ...], which outputs, and the request's id where it has one."""

    inputs: NDArray[np.float32]
    outputs: list[Output]
    id: str | None = None


class Limits(NamedTuple):
    """Of one request: rows, and pixels of all its pictures; `is_inline` where it must not take long to read."""

    max_rows: int
    max_pixels: int
    is_inline: bool = False


def parse(raw: bytes, json_length: str | None, manifest: Manifest, limits: Limits) -> InferRequest:
    """A request's body. `json_length` is the header Inference-Header-Content-Length: without it all of the body is
    JSON, of 0 all of it is the input's own bytes, and the answer is binary too.

    Raises InputError and MalformedError, naming what was given and what was expected, and SlowRequestError where
    pictures are to be read inline.
    """
    split = _split(json_length, len(raw))
    if json_length is not None and split == 0:
        return InferRequest(_raw_rows(raw, manifest, limits), [Output(name, binary=True) for name in OUTPUTS])
    read = describe_again if split < len(raw) else describe
    said = read(raw[:split], len(manifest.classes), len(manifest.input.shape))
    return InferRequest(_rows(said, memoryview(raw)[split:], manifest, limits), said.outputs, said.id)


def _split(json_length: str | None, length: int) -> int:
    if json_length is None:
        return length
    if not LENGTH.fullmatch(json_length) or int(json_length) > length:
        raise MalformedError(
            f"Inference-Header-Content-Length: got {json_length[:40]!r}, expected the length of the JSON, 0 to {length}"
        )
    return int(json_length)


def _rows(said: Described, binary: memoryview, manifest: Manifest, limits: Limits) -> NDArray[np.float32]:
    """The rows of the one input, from its JSON or from the bytes that follow it."""
    count = math.prod(said.shape)
    size = said.parameters.get("binary_data_size")
    if size is None:
        if len(binary):
            raise InputError(f"{len(binary)} bytes follow the JSON, but the input has no binary_data_size")
        tensor = from_json(said.given.get("data"), said.datatype, count, "input")
    else:
        if type(size) is not int or size != len(binary) or "data" in said.given:
            other = ", and data too" if "data" in said.given else ""
            raise InputError(
                f"input: binary_data_size is {shown(size)}{other}, "
                f"expected {len(binary)}: the bytes that follow the JSON"
            )
        tensor = from_bytes(binary, said.datatype, count, "input")
    if said.datatype == BYTES:
        return _pictures(tensor, said.shape, size is None, manifest, limits)
    return _shaped(np.asarray(tensor), said.shape, manifest, limits)


def _shaped(tensor: NDArray[Any], shape: list[int], manifest: Manifest, limits: Limits) -> NDArray[np.float32]:
    """Flat numbers as float32 [N, ...]; each row may be flat too."""
    expected = manifest.input.shape
    if shape[1:] not in (list(expected), [manifest.input.size]):
        raise InputError(f"input: got the shape {shape}, expected {[-1, *expected]}: rows of {manifest.name}")
    _check_rows(shape[0], limits)
    if tensor.dtype != np.float32:
        with np.errstate(over="ignore"):
            tensor = tensor.astype(np.float32)
    return tensor.reshape(shape[0], *expected)


def _check_rows(rows: int, limits: Limits) -> None:
    if not 1 <= rows <= limits.max_rows:
        raise InputError(f"input: got {rows} rows, expected 1 to {limits.max_rows}")


def _raw_rows(raw: bytes, manifest: Manifest, limits: Limits) -> NDArray[np.float32]:
    """The body is nothing but rows of float32."""
    row = 4 * manifest.input.size
    if not raw or len(raw) % row:
        raise InputError(f"input: got {len(raw)} raw bytes, expected rows of {row} bytes, float32")
    _check_rows(len(raw) // row, limits)
    return np.frombuffer(raw, "<f4").reshape(-1, *manifest.input.shape)


def _pictures(
    tensor: Tensor, shape: list[int], is_text: bool, manifest: Manifest, limits: Limits
) -> NDArray[np.float32]:
    """A BYTES element is a PNG or JPEG; in JSON, which has no bytes, it is base64."""
    if shape not in ([shape[0]], [shape[0], 1]):
        raise InputError(f"input: got the shape {shape} of BYTES, expected [N] or [N, 1]: one picture a row")
    _check_rows(shape[0], limits)
    if limits.is_inline:
        raise SlowRequestError
    elements = [_decoded(element) if is_text else element for element in tensor]
    left = limits.max_pixels
    pictures = []
    for element in elements:
        pictures.append(read_image(element, manifest, invert=False, max_pixels=left))
        left -= count_pixels(element)
    return np.concatenate(pictures)


def _decoded(element: bytes) -> bytes:
    try:
        return base64.b64decode(element, validate=True)
    except binascii.Error as error:
        raise MalformedError(f"input: an element of BYTES is no base64: {error}") from error
