"""The protocol's data types: how a tensor of each comes out of JSON and out of bytes.

It knows types, counts and ranges. It does not know requests, models or what the numbers mean.
https://github.com/kserve/open-inference-protocol and Triton's binary tensor data extension.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import InputError
from service.words import shown

NUMBERS: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
}
BYTES = "BYTES"

Tensor = NDArray[Any] | list[bytes]
"""Numbers, flat, or the elements of a BYTES tensor."""


def check_datatype(datatype: object, place: str) -> str:
    """One of the protocol's names. Raises InputError for anything else."""
    if not isinstance(datatype, str) or datatype not in {*NUMBERS, BYTES}:
        raise InputError(f"{place}: the datatype is {shown(datatype)}, expected one of {', '.join([*NUMBERS, BYTES])}")
    return datatype


def from_json(data: object, datatype: str, count: int, place: str) -> Tensor:
    """`count` elements that JSON gave flat or nested in whatever way, in C order: the protocol goes by `shape` alone.

    Raises InputError where there are more or fewer, and where one is not of the type or out of its range.
    """
    flat = _flat(data, place)
    if len(flat) != count:
        raise InputError(f"{place}: data holds {len(flat)} elements, expected the {count} of its shape")
    if datatype == BYTES:
        _check_types(flat, {str}, "a string", place)
        return [element.encode() for element in flat]
    dtype = NUMBERS[datatype]
    if dtype.kind == "f":
        _check_types(flat, {int, float}, "a number", place)
        with np.errstate(over="ignore"):  # beyond the type's range is infinite, as in Triton
            return np.array(flat, dtype=np.float64).astype(dtype)
    if dtype.kind == "b":
        _check_types(flat, {bool}, "true or false", place)
        return np.array(flat, dtype=dtype)
    _check_types(flat, {int}, "a whole number", place)
    limits = np.iinfo(dtype)
    if flat and not (limits.min <= min(flat) and max(flat) <= limits.max):
        raise InputError(f"{place}: data holds numbers from {min(flat)} to {max(flat)}, more than {datatype} can hold")
    return np.array(flat, dtype=dtype)


def from_bytes(raw: memoryview, datatype: str, count: int, place: str) -> Tensor:
    """`count` elements, little-endian and without padding; a BYTES element is its length, 4 bytes, then itself.

    Raises InputError where there are more or fewer bytes.
    """
    if datatype == BYTES:
        return _byte_strings(raw, count, place)
    dtype = NUMBERS[datatype]
    if len(raw) != count * dtype.itemsize:
        raise InputError(
            f"{place}: got {len(raw)} bytes, expected {count * dtype.itemsize}: {count} elements of {datatype}"
        )
    return np.frombuffer(raw, dtype)


def _byte_strings(raw: memoryview, count: int, place: str) -> list[bytes]:
    found: list[bytes] = []
    start = 0
    while len(found) < count and start + 4 <= len(raw):
        end = start + 4 + int.from_bytes(raw[start : start + 4], "little")
        if end > len(raw):
            raise InputError(f"{place}: element {len(found)} of BYTES goes beyond the {len(raw)} bytes that there are")
        found.append(bytes(raw[start + 4 : end]))
        start = end
    if len(found) != count or start != len(raw):
        raise InputError(f"{place}: got other than the {count} elements of BYTES that its shape has")
    return found


def _flat(data: object, place: str) -> list[Any]:
    if not isinstance(data, list):
        raise InputError(f"{place}: data is {type(data).__name__}, expected a list")
    level: Sequence[Any] = data
    while level and isinstance(level[0], list):
        if not all(isinstance(part, list) for part in level):
            raise InputError(f"{place}: data mixes lists with other values at one depth")
        level = list(chain.from_iterable(level))
    return list(level)


def _check_types(flat: list[Any], allowed: set[type], expected: str, place: str) -> None:
    if not set(map(type, flat)) <= allowed:
        position, odd = next((at, item) for at, item in enumerate(flat) if type(item) not in allowed)
        raise InputError(f"{place}: data holds {type(odd).__name__} at position {position}, expected {expected}")
