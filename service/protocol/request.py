"""From the bytes of an inference request to the rows of a model: the JSON, its binary tensors, the raw form.

It knows the protocol's requests and says what is wrong with them. It does not know routes, or models that run.
https://github.com/kserve/open-inference-protocol, with Triton's extensions binary_tensor_data and classification.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from service.asked import SlowRequestError
from service.errors import InputError, MalformedError
from service.inputs.images import count_pixels, read_image
from service.manifest import Manifest
from service.protocol.datatypes import BYTES, Tensor, check_datatype, from_bytes, from_json
from service.words import KINDS, shown

OUTPUTS = ("probabilities", "logits")
LARGEST_SIZE = 2**31 - 1
LENGTH = re.compile(r"[0-9]{1,12}")


class Output(NamedTuple):
    """An output that is asked for: as it is, or as its `classes` best where that is not 0; in JSON or in binary."""

    name: str
    binary: bool
    classes: int = 0


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
    fields = _parse_json(raw[:split] if split < len(raw) else raw)
    identity = fields.get("id")
    if identity is not None and not isinstance(identity, str):
        raise InputError(f"id is {KINDS[type(identity)]}, expected a string")
    inputs = _rows(_input(fields), memoryview(raw)[split:], manifest, limits)
    return InferRequest(inputs, _outputs(fields, len(manifest.classes)), identity or None)


def _split(json_length: str | None, length: int) -> int:
    if json_length is None:
        return length
    if not LENGTH.fullmatch(json_length) or int(json_length) > length:
        raise MalformedError(
            f"Inference-Header-Content-Length: got {json_length[:40]!r}, expected the length of the JSON, 0 to {length}"
        )
    return int(json_length)


def _parse_json(raw: bytes) -> dict[str, Any]:
    """A JSON object, in which NaN, Infinity and -Infinity are numbers, as in Triton."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        value = _parse_literals(raw, error)
    if not isinstance(value, dict):
        raise InputError(f"the request is {KINDS[type(value)]}, expected a JSON object with inputs")
    return value


def _parse_literals(raw: bytes, error: orjson.JSONDecodeError) -> Any:
    if b"NaN" not in raw and b"Infinity" not in raw:
        raise MalformedError(f"the request is not JSON: {error}") from error
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise MalformedError(f"the request is not JSON: {error}") from error


def _input(fields: dict[str, Any]) -> dict[str, Any]:
    """The one input."""
    inputs = fields.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        given = f"{len(inputs)} of them" if isinstance(inputs, list) else KINDS[type(inputs)]
        raise InputError(f"inputs: got {given}, expected a list of one object, the input named 'input'")
    if inputs[0].get("name") != "input":
        raise InputError(f"inputs: got the name {shown(inputs[0].get('name'))}, expected 'input'")
    return inputs[0]


def _rows(given: dict[str, Any], binary: memoryview, manifest: Manifest, limits: Limits) -> NDArray[np.float32]:
    """The rows of the one input, from its JSON or from the bytes that follow it."""
    datatype, shape = check_datatype(given.get("datatype"), "input"), _shape(given.get("shape"), manifest)
    count = math.prod(shape)
    parameters = _object(given.get("parameters"), "input: parameters")
    size = parameters.get("binary_data_size")
    if size is None:
        if len(binary):
            raise InputError(f"{len(binary)} bytes follow the JSON, but the input has no binary_data_size")
        tensor = from_json(given.get("data"), datatype, count, "input")
    else:
        if type(size) is not int or size != len(binary) or "data" in given:
            other = ", and data too" if "data" in given else ""
            raise InputError(
                f"input: binary_data_size is {shown(size)}{other}, "
                f"expected {len(binary)}: the bytes that follow the JSON"
            )
        tensor = from_bytes(binary, datatype, count, "input")
    if datatype == BYTES:
        return _pictures(tensor, shape, size is None, manifest, limits)
    return _shaped(np.asarray(tensor), shape, manifest, limits)


def _shape(value: object, manifest: Manifest) -> list[int]:
    """Its numbers are bounded before anything is computed of them: a product may have millions of digits."""
    if not isinstance(value, list) or not value or not all(type(size) is int and size >= 0 for size in value):
        raise InputError("input: the shape is missing or is no list of whole numbers of 0 or more")
    most = max(2, 1 + len(manifest.input.shape))
    if len(value) > most or max(value) > LARGEST_SIZE:
        raise InputError(
            f"input: got a shape of {len(value)} sizes, expected at most {most}, none above {LARGEST_SIZE}"
        )
    return value


def _shaped(tensor: NDArray[Any], shape: list[int], manifest: Manifest, limits: Limits) -> NDArray[np.float32]:
    """Flat numbers as float32 [N, ...]; each row may be flat too."""
    expected = manifest.input.shape
    if shape[1:] not in (list(expected), [manifest.input.size]):
        raise InputError(f"input: got the shape {shape}, expected {[-1, *expected]}: rows of {manifest.name}")
    _check_rows(shape[0], limits)
    with np.errstate(over="ignore"):
        return tensor.astype(np.float32, copy=False).reshape(shape[0], *expected)


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


def _outputs(fields: dict[str, Any], classes: int) -> list[Output]:
    """The outputs that are asked for, in that order; by default all."""
    binary = _flag(_object(fields.get("parameters"), "parameters"), "binary_data_output", default=False)
    asked = fields.get("outputs")
    if asked is None or asked == []:
        return [Output(name, binary) for name in OUTPUTS]
    if not isinstance(asked, list) or not all(isinstance(output, dict) for output in asked):
        raise InputError(f"outputs: got {KINDS[type(asked)]}, expected a list of objects with a name each")
    outputs = [_output(output, binary, classes) for output in asked]
    names = [output.name for output in outputs]
    if len(set(names)) != len(names):
        raise InputError(f"outputs: got {len(names)} of them, expected each of {', '.join(OUTPUTS)} at most once")
    return outputs


def _output(given: dict[str, Any], binary: bool, classes: int) -> Output:
    name = given.get("name")
    if name not in OUTPUTS:
        raise InputError(f"outputs: got the name {shown(name)}, expected {' or '.join(OUTPUTS)}")
    parameters = _object(given.get("parameters"), f"{name}: parameters")
    best = parameters.get("classification", 0)
    if type(best) is not int or best < 0:
        raise InputError(f"{name}: classification is {shown(best)}, expected how many classes, 0 for none")
    return Output(name, _flag(parameters, "binary_data", default=binary), min(best, classes))


def _object(value: object, place: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InputError(f"{place}: got {KINDS[type(value)]}, expected an object")
    return value


def _flag(parameters: dict[str, Any], name: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InputError(f"{name}: got {KINDS[type(value)]}, expected true or false")
    return value
