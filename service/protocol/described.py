"""What the JSON of an inference request says: its input and in which form its numbers come, its outputs, its id.

It knows the protocol's JSON and says what is wrong with it. It does not know bodies, bytes of tensors, or models.
https://github.com/kserve/open-inference-protocol, with Triton's extensions binary_tensor_data and classification.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from service.errors import InputError, MalformedError
from service.protocol.datatypes import check_datatype
from service.words import KINDS, shown

OUTPUTS = ("probabilities", "logits")
LARGEST_SIZE = 2**31 - 1
LONGEST_WHOLE = 20
"""Characters of a whole number of 64 bits."""
LARGEST_KEPT = 2**10
"""Bytes of a JSON that is kept with what it says."""


class Output(NamedTuple):
    """An output that is asked for: as it is, or as its `classes` best where that is not 0; in JSON or in binary."""

    name: str
    binary: bool
    classes: int = 0


class Described(NamedTuple):
    """What a request's JSON says. `given` is its input as it stands there, whose `data` is not looked into."""

    given: Mapping[str, Any]
    datatype: str
    shape: list[int]
    parameters: Mapping[str, Any]
    outputs: list[Output]
    id: str | None


def describe(raw: bytes, classes: int, dimensions: int) -> Described:
    """What a JSON says to a model of so many classes, whose examples have so many dimensions.

    Raises InputError and MalformedError, naming what was given and what was expected.
    """
    fields = _parse_json(raw)
    identity = fields.get("id")
    if identity is not None and not isinstance(identity, str):
        raise InputError(f"id is {KINDS[type(identity)]}, expected a string")
    given = _input(fields)
    datatype = check_datatype(given.get("datatype"), "input")
    shape = _shape(given.get("shape"), max(2, 1 + dimensions))
    parameters = _object(given.get("parameters"), "input: parameters")
    return Described(given, datatype, shape, parameters, _outputs(fields, classes), identity or None)


_kept = lru_cache(maxsize=256)(describe)


def describe_again(raw: bytes, classes: int, dimensions: int) -> Described:
    """As `describe`, for a JSON that is likely to come again, since the numbers are not in it: a small one is kept, and
    what comes back is not to be changed."""
    return (_kept if len(raw) <= LARGEST_KEPT else describe)(raw, classes, dimensions)


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
        value = json.loads(raw, parse_int=_whole)
        if b"\\u" in raw:
            json.dumps(value, ensure_ascii=False).encode()  # half a character, which orjson does not take either
    except (ValueError, RecursionError):
        raise MalformedError(f"the request is not JSON: {error}") from error
    return value


def _whole(digits: str) -> int | float:
    """As orjson reads it: beyond 64 bits it is but a number."""
    whole = int(digits) if len(digits) <= LONGEST_WHOLE else 2**64
    return whole if -(2**63) <= whole < 2**64 else float(digits)


def _input(fields: dict[str, Any]) -> dict[str, Any]:
    """The one input."""
    inputs = fields.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        given = f"{len(inputs)} of them" if isinstance(inputs, list) else KINDS[type(inputs)]
        raise InputError(f"inputs: got {given}, expected a list of one object, the input named 'input'")
    if inputs[0].get("name") != "input":
        raise InputError(f"inputs: got the name {shown(inputs[0].get('name'))}, expected 'input'")
    return inputs[0]


def _shape(value: object, most: int) -> list[int]:
    """Its numbers are bounded before anything is computed of them: a product may have millions of digits."""
    if not isinstance(value, list) or not value or not all(type(size) is int and size >= 0 for size in value):
        raise InputError("input: the shape is missing or is no list of whole numbers of 0 or more")
    if len(value) > most or max(value) > LARGEST_SIZE:
        raise InputError(
            f"input: got a shape of {len(value)} sizes, expected at most {most}, none above {LARGEST_SIZE}"
        )
    return value


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
