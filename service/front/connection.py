"""uvicorn's HTTP, with limits on what one connection may cost: bytes of a head, time, requests read ahead.

It knows connections, not routes. https://www.rfc-editor.org/rfc/rfc9112
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sized
from http import HTTPStatus
from time import monotonic
from typing import Any

import orjson
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LARGEST_HEAD = 2**16
"""Bytes of a request line and its headers."""
STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


class LimitedProtocol(HttpToolsProtocol):
    """One connection, one of at most `most_connections` of its process."""

    def __init__(self, *values: Any, most_connections: int, **named: Any) -> None:
        super().__init__(*values, **named)
        self._most_connections = most_connections
        self._part = 0
        """Counts the beginnings and the ends of requests."""
        self._head_bytes: int | None = 0
        """Of a head that is not complete yet; None in a body."""
        self._receiving_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Takes it, or says that there are too many."""
        super().connection_made(transport)
        self.flow = _ReadAhead(transport, self.pipeline)
        self._receiving_since = monotonic()
        if len(self.connections) > self._most_connections:
            text = f"{self._most_connections} connections are open already, the most that there may be: try again"
            self.turn_away(503, text, {"Retry-After": "1"})

    def data_received(self, data: bytes) -> None:
        """As uvicorn's; a head without an end is refused."""
        if self.transport.is_closing():
            return
        part = self._part
        super().data_received(data)
        if self._head_bytes is not None and self._part == part:  # all of it was of this head
            self._head_bytes += len(data)
            if self._head_bytes > LARGEST_HEAD:
                self._refuse_head()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._part += 1
        self._head_bytes, self._receiving_since = 0, monotonic()

    def on_headers_complete(self) -> None:
        """The head is whole. One that came at once, too, has a limit."""
        self._head_bytes = None
        if sum(len(name) + len(value) for name, value in self.headers) + len(self.url) > LARGEST_HEAD:
            raise _HeadTooLargeError
        if not self.begin():
            super().on_headers_complete()
        if self.is_ending():
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._part += 1
        self._head_bytes, self._receiving_since = 0, None
        if not self.end():
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What cannot be read as HTTP, or not as a whole."""
        error = sys.exc_info()[1]
        if error is not None and isinstance(error.__context__, _HeadTooLargeError):
            self._refuse_head()
        else:
            self.turn_away(400, "the request is not HTTP/1.1")

    def is_ending(self) -> bool:
        """Whether the process ends: then each connection gets one more answer."""
        return getattr(self.server_state, "is_ending", False)

    def begin(self) -> bool:
        """Whether a subclass takes the request whose head is whole."""
        return False

    def end(self) -> bool:
        """Whether a subclass has taken the request that is whole."""
        return False

    def is_late(self, seconds: float) -> bool:
        """Whether a request has been coming in for longer than that."""
        return self._receiving_since is not None and monotonic() - self._receiving_since > seconds

    def turn_away(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        """Says why and closes, where nothing else is being answered."""
        if not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
                body = orjson.dumps({"error": text})
                self.write_answer(status, body, {"content-type": "application/json", **(headers or {})}, close=True)
            self.transport.close()

    def write_answer(self, status: int, body: bytes, headers: Mapping[str, str], *, close: bool) -> None:
        """A whole answer, in one piece."""
        lines = [STATUS_LINES[status], b"content-length: %d\r\n" % len(body)]
        lines += [f"{name.lower()}: {value}\r\n".encode("latin-1") for name, value in headers.items()]
        lines += [b"%b: %b\r\n" % header for header in self.server_state.default_headers]
        lines.append(b"connection: close\r\n\r\n" if close else b"\r\n")
        self.transport.write(b"".join([*lines, body]))

    def _refuse_head(self) -> None:
        self.turn_away(431, f"the head of the request has more than {LARGEST_HEAD} bytes, the most that is taken")


class _HeadTooLargeError(Exception):
    """Ends the parsing of a request."""


class _ReadAhead(FlowControl):
    """Reads no more as long as requests wait that were read already: uvicorn would go on for each that it answers."""

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        """Only where none waits."""
        if not self._waiting:
            super().resume_reading()
