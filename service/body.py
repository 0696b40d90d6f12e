"""From the bytes of a request to what a model takes: the limit, the JSON, the rows.

It knows what may be sent and says what is wrong with it. It does not know routes, models that run, or images.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.encoding import decompressed
from service.errors import BusyError, InputError, MalformedError, TooLargeError
from service.manifest import Manifest
from service.words import KINDS, shown

Fields = TypeVar("Fields", bound=BaseModel)

LONGEST_SHOWN = 10_000
AT_ONCE = 8
"""How many of the largest bodies all requests together may hold."""
LARGE_BODY = 2**16
"""Bytes from which on a body is parsed in a thread: below, a hop to one costs more than it saves."""


class Bodies:
    """The bytes that the bodies of all requests of a process hold: at most AT_ONCE times the largest."""

    def __init__(self, max_bytes: int) -> None:
        self.most = AT_ONCE * max_bytes
        self.held = 0

    def add(self, count: int) -> None:
        """Raises BusyError where they are too many; they count nevertheless, until they are taken away."""
        self.held += count
        if self.held > self.most:
            raise BusyError(f"the bodies of all requests hold more than {self.most} bytes: try again")


class BodyLimit:
    """ASGI middleware: refuses a body of more than `max_bytes`, by its Content-Length at once, else by counting.

    All bodies that are being received or answered count in `bodies` too.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, bodies: Bodies) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.bodies = bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers 413 or hands over."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isdecimal() and int(announced) > self.max_bytes:
            answer = JSONResponse(
                {"error": f"the body has {announced} bytes, expected at most {self.max_bytes}"}, TooLargeError.status
            )
            await answer(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            self.bodies.add(len(message.get("body", b"")))
            if received > self.max_bytes:
                raise TooLargeError(f"the body has more than {self.max_bytes} bytes, the most that is taken")
            return message

        try:
            await self.app(scope, counted, send)
        finally:
            self.bodies.held -= received


async def read_body(request: Request) -> bytes:
    """The whole body, unpacked where it has a Content-Encoding.

    Raises TooLargeError (BodyLimit, or when unpacked), EncodingError, and MalformedError where it breaks off or is
    damaged.
    """
    try:
        raw = await request.body()
    except ClientDisconnect as error:
        raise MalformedError("the body broke off: the client went away") from error
    coding = request.headers.get("content-encoding")
    if coding is None:
        return raw
    return await asyncio.to_thread(decompressed, raw, coding, request.app.state.settings.max_body_bytes)


def parse_json_object(raw: bytes) -> dict[str, Any]:
    """A body as a JSON object, whatever its content type says.

    Raises MalformedError where it is not JSON, InputError where it is another JSON value.
    """
    if raw.startswith((b"\x89PNG", b"\xff\xd8\xff")):
        raise MalformedError(
            "the body is a picture, expected JSON, or the picture in a form (curl -F image=@digit.png)"
        )
    if raw.startswith((b"RIFF", b"fLaC")):
        raise MalformedError(
            "the body is a recording, expected JSON, or the recording in a form (curl -F audio=@word.wav)"
        )
    if not raw:
        raise MalformedError('the body is empty, expected a JSON object such as {"inputs": [[...]]}')
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        hint = " (NaN and Infinity are not JSON)" if b"NaN" in raw or b"Infinity" in raw else ""
        raise MalformedError(f"the body is not JSON: {error}{hint}") from error
    if not isinstance(value, dict):
        raise InputError(f'the body is {KINDS[type(value)]}, expected a JSON object such as {{"inputs": [[...]]}}')
    return value


def check_fields(fields: dict[str, Any], kind: type[Fields]) -> Fields:
    """The fields of a request as one of the pydantic models that document them.

    Raises InputError, naming each field that is wrong, what it got and what was expected.
    """
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        raise InputError("; ".join(in_words(problem, problem["loc"], kind) for problem in problems)) from error


def in_words(problem: Mapping[str, Any], place: Sequence[int | str], kind: type[BaseModel] | None = None) -> str:
    """What pydantic found wrong at a place, in the words of all our errors."""
    name = ".".join(map(str, place))
    if problem["type"] == "extra_forbidden" and kind is not None:
        return f"unknown field {name!r}; known: {', '.join(kind.model_fields)}"
    if problem["type"] == "missing" and kind is not None and name in kind.model_fields:
        return f"{name} is missing: {kind.model_fields[name].description}"
    return f"{name}: got {shown(problem['input'])}, {problem['msg'].replace('Input should be', 'expected', 1)}"


def parse_inputs(value: object, manifest: Manifest, max_rows: int) -> NDArray[np.float32]:
    """Rows as JSON gave them, each nested or flat to the model's shape: float32 [N, ...], finite, 1 to `max_rows` rows.

    Raises InputError, naming the first row that is wrong.
    """
    shape = manifest.input.shape
    if not isinstance(value, list):
        raise InputError(f"inputs: got {KINDS[type(value)]}, expected a list of rows, each of shape {_shapes(shape)}")
    if not value or (len(value) > max_rows and isinstance(value[0], list)):
        raise InputError(f"inputs: got {len(value)} rows, expected 1 to {max_rows}")
    numbers = [_row(value, index, shape) for index in range(len(value))]
    with np.errstate(over="ignore"):
        rows = np.array(numbers, dtype=np.float64).astype(np.float32)
    if not np.isfinite(rows).all():
        index, position = map(int, np.argwhere(~np.isfinite(rows))[0])
        found = float(numbers[index][position])
        raise InputError(f"inputs: row {index} holds {found} at position {position}, expected a finite float32")
    return rows.reshape(len(rows), *shape)


def _row(value: list[Any], index: int, shape: tuple[int, ...]) -> list[float]:
    """The numbers of one row, flat."""
    row = _flat(value[index], shape) or _flat(value[index], (math.prod(shape),))
    if row is None:
        raise InputError(_wrong_shape(value, index, shape))
    if not set(map(type, row)) <= {int, float}:  # numpy would take a boolean for a number
        position, odd = next((at, item) for at, item in enumerate(row) if type(item) not in (int, float))
        raise InputError(f"inputs: row {index} holds {KINDS[type(odd)]} at position {position}, expected a number")
    return row


def _flat(row: object, shape: tuple[int, ...]) -> list[Any] | None:
    """The numbers of one row that is nested to `shape`, in C order; None where it is not."""
    level: list[Any] = [row]
    for size in shape:
        if any(not isinstance(part, list) or len(part) != size for part in level):
            return None
        level = list(chain.from_iterable(level))
    return level


def _wrong_shape(value: list[Any], index: int, shape: tuple[int, ...]) -> str:
    is_one_example = _flat(value, shape) or _flat(value, (math.prod(shape),))
    wrap = "; to send one example, wrap it in a list" if is_one_example else ""
    return f"inputs: row {index} {_found(value[index])}, expected shape {_shapes(shape)}{wrap}"


def _found(row: object) -> str:
    if not isinstance(row, list):
        return f"is {KINDS[type(row)]}"
    if len(row) > LONGEST_SHOWN:  # to look into it would take seconds, in which nothing else runs
        return f"has {len(row)} items"
    try:
        return f"has shape {list(np.shape(row))}"
    except ValueError:  # numpy's word for lists of several lengths, and for more than 64 levels
        return "is ragged: its lists have several lengths or depths"


def _shapes(shape: tuple[int, ...]) -> str:
    """The shapes that a row may have."""
    return f"{list(shape)}" if len(shape) == 1 else f"{list(shape)} or [{math.prod(shape)}]"
