"""The bodies of the Open Inference Protocol from the client's side: rows as a request's, an answer's as arrays.

It knows JSON and the extension binary_tensor_data. It does not know what an answer means. What is wrong with one is a
ValueError.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.protocol.datatypes import NUMBERS
from service.words import short, shown

FLOATS = ("FP16", "FP32", "FP64")
DIMENSIONS = 8


class Tensor(NamedTuple):
    """An input or output; in metadata, -1 in its shape is any size."""

    name: str
    datatype: str
    shape: list[int]


class Answer(NamedTuple):
    """The outputs by name, float32, and the version that answered, where it is told."""

    outputs: dict[str, NDArray[np.float32]]
    version: str | None


def write_body(tensor: Tensor, values: NDArray[Any], outputs: Sequence[str], *, binary: bool) -> tuple[bytes, int]:
    """The body of a request for `outputs`, and how many bytes of it are JSON."""
    entry: dict[str, Any] = tensor._asdict()
    values = np.ascontiguousarray(values, dtype=NUMBERS[tensor.datatype])
    if binary:
        entry["parameters"] = {"binary_data_size": values.nbytes}
    else:
        entry["data"] = values.ravel().tolist()
    asked = [{"name": name, **({"parameters": {"binary_data": True}} if binary else {})} for name in outputs]
    head = json.dumps({"inputs": [entry], "outputs": asked}, separators=(",", ":")).encode()
    return (head + values.tobytes() if binary else head), len(head)


def read_body(raw: bytes, json_length: str | None, names: Sequence[str]) -> Answer:
    """The outputs of these names; `json_length` is the header Inference-Header-Content-Length."""
    split = len(raw) if json_length is None else _length(json_length, len(raw))
    fields = parse_object(raw[:split])
    outputs = tensors_of(fields, "outputs")
    found, at = {}, split
    for output in outputs:
        size = (output.get("parameters") or {}).get("binary_data_size")
        if size is not None:
            binary, at = _slice(raw, at, size, output["name"])
        if output["name"] in names:
            found[output["name"]] = _array(output, None if size is None else binary)
    if missing := [name for name in names if name not in found]:
        there = ", ".join(output["name"] for output in outputs)
        raise ValueError(f"the answer has the outputs {short(there) or 'none'}, expected {', '.join(missing)} too")
    version = fields.get("model_version")
    return Answer(found, version if isinstance(version, str) else None)


def parse_object(raw: bytes) -> dict[str, Any]:
    """A JSON object."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"what came is no JSON, but {short(repr(raw[:60]))}") from error
    if not isinstance(value, dict):
        raise ValueError(f"what came is {shown(value)}, expected an object")
    return value


def tensors_of(fields: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The list of inputs or outputs, each an object with a name, a datatype and a shape."""
    entries = fields.get(name, [])
    if not isinstance(entries, list) or not all(_is_tensor(entry) for entry in entries):
        raise ValueError(f"{name} is no list of objects with a name, a datatype and a shape")
    return entries


def _is_tensor(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("name"), str)
        and isinstance(entry.get("datatype"), str)
        and isinstance(shape := entry.get("shape"), list)
        and len(shape) <= DIMENSIONS
        and all(type(size) is int for size in shape)
        and isinstance(entry.get("parameters", {}), dict | None)
    )


def _length(text: str, most: int) -> int:
    if not text.isdecimal() or not text.isascii() or len(text) > 12 or int(text) > most:
        raise ValueError(f"Inference-Header-Content-Length is {short(text)!r}, expected at most {most}")
    return int(text)


def _slice(raw: bytes, start: int, size: object, name: str) -> tuple[bytes, int]:
    if type(size) is not int or not 0 <= size <= len(raw) - start:
        raise ValueError(f"output {name} is short: {len(raw) - start} bytes, expected {shown(size)}")
    return raw[start : start + size], start + size


def _array(output: dict[str, Any], binary: bytes | None) -> NDArray[np.float32]:
    name, datatype, shape = output["name"], output["datatype"], output["shape"]
    if datatype not in FLOATS:
        raise ValueError(f"output {name} is {short(datatype)}, expected one of {', '.join(FLOATS)}")
    try:
        with np.errstate(over="ignore"):  # beyond the type's range is infinite
            flat = (
                np.array(output.get("data"), dtype=np.float64).ravel()
                if binary is None
                else np.frombuffer(binary, NUMBERS[datatype])
            ).astype(np.float32)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"output {name} holds no numbers of {datatype}") from error
    if min(shape, default=0) < 0 or flat.size != prod(shape):
        raise ValueError(f"output {name} is short or long: {flat.size} numbers, expected those of the shape {shape}")
    return flat.reshape(shape)
