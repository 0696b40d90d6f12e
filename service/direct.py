"""Answers the two hot routes in front of FastAPI, whose routing costs as much as a student's whole run.

A plain POST to /predict or to /v2/.../infer goes from the socket to the model and back without a task, a scope or a
response object of its own. Every other request, and whatever is unusual about one of these (a body in chunks or packed,
a form, `Expect`, one that is sent before the last was answered, a client that does not read) goes to FastAPI, where the
same two functions read it: both ways lead to one batcher and give the same answers. It knows HTTP and uvicorn's
protocol class, not what is in a body.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sized
from functools import partial
from http import HTTPStatus
from time import perf_counter
from typing import Any

from starlette.datastructures import State
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.asked import JSON, Asked
from service.batching import Job, Outcome
from service.errors import StillroomError
from service.predict import api as predict
from service.predict.numbers import Reader
from service.protocol import infer
from service.protocol.about import version_of
from service.refused import INTERNAL, Refused, refused

log = logging.getLogger("service")

LARGEST_BODY = 2**19
"""Bytes; what is larger is read in a thread, by FastAPI's route."""
STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
UNUSUAL = frozenset({b"expect", b"transfer-encoding", b"content-encoding", b"upgrade"})

Headers = Mapping[bytes, bytes]
Ask = Callable[[bytes, Headers, float], Asked]


class Exchange:
    """One request that is answered here. What uvicorn knows as a cycle, as far as it looks into one."""

    message_event = asyncio.Event()  # uvicorn sets it when the connection ends; nobody waits for it

    def __init__(self, route: str, ask: Ask, headers: Headers, keep_alive: bool) -> None:
        self.route = route
        self.ask = ask
        self.headers = headers
        self.keep_alive = keep_alive
        self.response_complete = False
        self.started = perf_counter()
        self.parts: list[bytes] = []
        self.job: Job | None = None
        self._disconnected = False

    @property
    def disconnected(self) -> bool:
        """Whether the client has gone; then its rows need not run."""
        return self._disconnected

    @disconnected.setter
    def disconnected(self, gone: bool) -> None:
        self._disconnected = gone
        if self.job is not None:
            self.job.given_up = True


class _ReadAhead(FlowControl):
    """Reads no more as long as requests wait that were read already: uvicorn would go on for each that it answers."""

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        """Only where none waits."""
        if not self._waiting:
            super().resume_reading()


class DirectProtocol(HttpToolsProtocol):
    """uvicorn's HTTP with the hot routes taken out. `state` is the app's, `reader` is for this process's event loop."""

    def __init__(self, *values: Any, state: State, reader: Reader, **named: Any) -> None:
        super().__init__(*values, **named)
        self._state = state
        self._reader = reader
        self._largest_body = min(LARGEST_BODY, state.settings.max_body_bytes)
        self._default_headers: list[tuple[bytes, bytes]] = []
        self._default_lines = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """As uvicorn's, with a limit on what is read ahead."""
        super().connection_made(transport)
        self.flow = _ReadAhead(transport, self.pipeline)

    def on_headers_complete(self) -> None:
        """Takes the request or leaves it to FastAPI."""
        exchange = self._exchange() if self.parser.get_method() == b"POST" else None
        if exchange is None:
            super().on_headers_complete()
        else:
            self.cycle = exchange  # type: ignore[assignment]  # see Exchange

    def on_body(self, body: bytes) -> None:
        """Keeps the body's parts."""
        if isinstance(self.cycle, Exchange):
            self.cycle.parts.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The body is whole: its rows are queued, or refused."""
        if isinstance(self.cycle, Exchange):
            self._ask(self.cycle)
        else:
            super().on_message_complete()

    def _exchange(self) -> Exchange | None:
        is_first = self.cycle is None or self.cycle.response_complete
        if not is_first or self.flow.write_paused or self.parser.get_http_version() != "1.1":
            return None
        headers = dict(self.headers)
        if len(headers) != len(self.headers) or not UNUSUAL.isdisjoint(headers):
            return None
        length = headers.get(b"content-length", b"")
        if not length.isdigit() or int(length) > self._largest_body:
            return None
        found = self._route(headers)
        return found and Exchange(*found, headers, self.parser.should_keep_alive())

    def _route(self, headers: Headers) -> tuple[str, Ask] | None:
        if self.url == b"/predict":
            is_form = headers.get(b"content-type", b"").lower().startswith(b"multipart/")
            return None if is_form else ("/predict", self._predict)
        match self.url.split(b"/"):
            case [b"", b"v2", b"models", name, b"infer"] if _is_plain(name):
                return "/v2/models/{name}/infer", partial(self._infer, name.decode(), None)
            case [b"", b"v2", b"models", name, b"versions", version, b"infer"] if _is_plain(name, version):
                route = "/v2/models/{name}/versions/{version}/infer"
                return route, partial(self._infer, name.decode(), version.decode())
        return None

    def _predict(self, raw: bytes, headers: Headers, started: float) -> Asked:
        return predict.ask(raw, self._state.library, self._state.settings, started, self._reader)

    def _infer(self, name: str, version: str | None, raw: bytes, headers: Headers, started: float) -> Asked:
        model = version_of(self._state.library, name, version)
        length, accepts = headers.get(infer.JSON_LENGTH.lower().encode()), headers.get(b"accept-encoding", b"")
        json_length = None if length is None else length.decode("latin-1")
        return infer.ask(raw, json_length, accepts.decode("latin-1"), model, self._state.settings)

    def _ask(self, exchange: Exchange) -> None:
        raw = exchange.parts[0] if len(exchange.parts) == 1 else b"".join(exchange.parts)
        try:
            asked = exchange.ask(raw, exchange.headers, exchange.started)
            done = partial(self._done, exchange, asked)
            exchange.job = self._state.batcher.submit(asked.model, asked.inputs, done)
        except StillroomError as error:
            self._refuse(exchange, refused(error, "POST", exchange.route))
        except Exception:
            self._fail(exchange)

    def _done(self, exchange: Exchange, asked: Asked, outcome: Outcome) -> None:
        if isinstance(outcome, StillroomError):
            self._refuse(exchange, refused(outcome, "POST", exchange.route))
            return
        try:
            reply = asked.write(outcome)
        except Exception:
            self._fail(exchange)
        else:
            self._write(exchange, 200, reply.body, reply.media_type, reply.headers)

    def _fail(self, exchange: Exchange) -> None:
        log.exception("POST %s failed", exchange.route)
        self._refuse(exchange, INTERNAL)

    def _refuse(self, exchange: Exchange, refusal: Refused) -> None:
        self._write(exchange, refusal.status, refusal.body, JSON, refusal.headers)

    def _write(self, exchange: Exchange, status: int, body: bytes, kind: str, headers: Mapping[str, str]) -> None:
        exchange.response_complete = True
        exchange.job = None  # it knows the exchange: without this the two would wait for a collection of garbage
        self._state.statistics.requested("POST", exchange.route, status)
        if self.transport.is_closing():
            return
        if self.server_state.default_headers is not self._default_headers:  # uvicorn makes them anew with the date
            self._default_headers = self.server_state.default_headers
            self._default_lines = b"".join(b"%b: %b\r\n" % header for header in self._default_headers)
        described = b"content-length: %d\r\ncontent-type: %b\r\n" % (len(body), kind.encode())
        lines = [STATUS_LINES[status], self._default_lines, described]
        lines += [f"{name.lower()}: {value}\r\n".encode("latin-1") for name, value in headers.items()]
        lines.append(b"\r\n" if exchange.keep_alive else b"connection: close\r\n\r\n")
        self.transport.write(b"".join([*lines, body]))
        if not exchange.keep_alive:
            self.transport.close()
        self.on_response_complete()


def _is_plain(*names: bytes) -> bool:
    """Whether parts of the path stand for themselves: nothing in them is escaped, and no query follows."""
    return all(name and name.isascii() and not any(sign in name for sign in b"%?#\\") for name in names)
