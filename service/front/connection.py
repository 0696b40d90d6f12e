"""uvicorn's HTTP, with limits on what one connection may cost: bytes of a head, time, requests read ahead.

It knows connections, not routes. https://www.rfc-editor.org/rfc/rfc9112
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sized
from http import HTTPStatus
from time import monotonic
from typing import Any

import httptools
import orjson
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.errors import BusyError

LARGEST_HEAD = 2**16
"""Bytes of a request line and its headers."""
STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


class LimitedProtocol(HttpToolsProtocol):
    """One connection, one of at most `most_connections` of its process."""

    def __init__(self, *values: Any, most_connections: int, **named: Any) -> None:
        super().__init__(*values, **named)
        self._most_connections = most_connections
        self._default_headers: list[tuple[bytes, bytes]] = []
        self._default_lines = b""
        self._is_in_body = False
        self._is_receiving = False
        """Whether a request has begun and is not whole."""
        self._receiving_since: float | None = None
        self._stuck_since: float | None = None
        """Since when the client has not read, or not let the connection end."""
        self._chunk_bytes, self._head_bytes = 0, 0
        """Bytes that came last; at most so many has the head that is coming in."""
        self._silent_bytes, self._progress = 0, 0
        """Bytes that were neither of a body nor the end of anything; how often something was."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Takes it, or says that there are too many."""
        super().connection_made(transport)
        self.flow = _ReadAhead(transport, self.pipeline)
        self._receiving_since = monotonic()
        if len(self.connections) > self._most_connections:
            text = f"{self._most_connections} connections are open already, the most that there may be: try again"
            self.turn_away(503, text, {"Retry-After": "1"})

    def data_received(self, data: bytes) -> None:
        """As uvicorn's; a head, a trailer or a chunk's extension without an end is refused."""
        if self.transport.is_closing():
            return
        was_receiving, progress = self._is_receiving, self._progress
        if not was_receiving and self._receiving_since is None and self.is_answered():
            self._receiving_since = monotonic()  # even if it is but an empty line: it ends the keep-alive timer
        self._chunk_bytes = len(data)
        self._head_bytes += len(data)
        self._unset_keepalive_if_required()
        self._parse(data)
        if self._progress == progress:
            self._silent_bytes += len(data)
        else:  # a head that began with the first of these bytes, and has no end
            is_of_one_head = not was_receiving and self._progress == progress + 1
            self._silent_bytes = len(data) if is_of_one_head else 0
        if self._silent_bytes > LARGEST_HEAD:
            self._refuse_head()

    def _parse(self, data: bytes) -> None:
        """Into what the methods below are told."""
        rest = memoryview(data)  # many offers may come in one piece, and it is copied for none of them
        try:
            while (end := self._feed(rest)) is not None:
                if self.parser.get_method() == b"CONNECT":
                    self.turn_away(405, "this service is no proxy: it does not take CONNECT", {"Allow": "GET, POST"})
                    return
                self._feed(self._head_without_upgrade())
                rest = rest[end:]
        except httptools.HttpParserError as error:
            self._refuse(error.__context__)

    def _feed(self, data: bytes | memoryview) -> int | None:
        """Where in `data` the head ends that offers another protocol, at which the parser stops; None where none does.

        Raises HttpParserError.
        """
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stopped:
            end: int = stopped.args[0]
            return end
        return None

    def _head_without_upgrade(self) -> bytes:
        """The head that the parser has stopped behind, to be read by a new one, as if it asked for no other protocol: a
        server may pass that over (RFC 9110, section 7.8), and what follows is its body still."""
        line = b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        fields = [b"%b: %b" % field for field in self.headers if field[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
        return b"\r\n".join([line, *fields, b"", b""])

    def is_idle(self) -> bool:
        """Whether what comes next begins a request that is asked at once, and not the last one of the connection."""
        is_closing = self.is_ending() or self.transport.is_closing()
        return not (self._is_receiving or is_closing) and self.is_answered()

    def skip_parsing(self) -> None:
        """A subclass has read a whole request without the parser, which has not moved."""
        self._unset_keepalive_if_required()
        self._receiving_since = None
        self._silent_bytes = 0

    def on_message_begin(self) -> None:
        """A request begins. Its time is not counted while one before it is unanswered, since it is not read then."""
        super().on_message_begin()
        self._progress += 1
        self._is_receiving, self._is_in_body = True, False
        self._receiving_since = monotonic() if self.is_answered() else None

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; trailers are left out, as they may be (RFC 9110, section 6.5.1)."""
        if not self._is_in_body:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole. One that came at once, too, has a limit."""
        self._progress += 1
        if self._head_bytes > LARGEST_HEAD:
            fields = [*self.headers, (self.url, b"")]
            if sum(len(name) + len(value) for name, value in fields) > LARGEST_HEAD:
                raise _HeadTooLargeError
        self._head_bytes = self._chunk_bytes  # of the next one, which may begin in them
        if self.parser.should_upgrade():
            return  # it is read again: see _parse
        if not self.begin():
            self._check_coding()
            self.url = _in_origin_form(self.url)
            super().on_headers_complete()
        self._is_in_body = True
        if self.is_ending():
            self.cycle.keep_alive = False

    def _check_coding(self) -> None:
        """A body in another transfer coding cannot be read (RFC 9112, section 6.1)."""
        codings = [value for name, value in self.headers if name == b"transfer-encoding"]
        if codings and b",".join(codings).strip().lower() != b"chunked":
            raise _CodingError

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._progress += 1
        if not self.part(body):
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._progress += 1
        if self.parser.should_upgrade():
            return
        self._is_in_body = self._is_receiving = False
        self._receiving_since = None
        if not self.end():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """As uvicorn's; the time of a request that was begun meanwhile counts from now on."""
        super().on_response_complete()
        if self._is_receiving and self._receiving_since is None:
            self._receiving_since = monotonic()

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        self._stuck_since = self._stuck_since or monotonic()

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        self._stuck_since = None

    def _refuse(self, reason: BaseException | None) -> None:
        """What cannot be read as HTTP, or not as a whole."""
        if isinstance(reason, _HeadTooLargeError):
            self._refuse_head()
        elif isinstance(reason, BusyError):
            self.turn_away(reason.status, str(reason), {"Retry-After": str(reason.retry_after_s)})
        elif isinstance(reason, _CodingError):
            self.turn_away(501, "the Transfer-Encoding is not known, expected chunked")
        else:
            self.turn_away(400, "the request is not HTTP/1.1")

    def is_ending(self) -> bool:
        """Whether the process ends: then each connection gets one more answer."""
        return getattr(self.server_state, "is_ending", False)

    def look_after(self, seconds: float) -> None:
        """Gives up a request that has been coming in, or an answer that has not been read, for longer than that.

        It is to be called now and then.
        """
        now = monotonic()
        if self.transport.is_closing():
            self._stuck_since = self._stuck_since or now
        if self._stuck_since is not None and now - self._stuck_since > seconds:
            self.transport.abort()
        elif self._receiving_since is not None and now - self._receiving_since > seconds:
            self.turn_away(408, f"the request was not whole within {seconds:g} s")

    def turn_away(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> bool:
        """Says why and closes. A request before this one that is unanswered is answered first, and nothing is said.

        Whether something was said.
        """
        if self.transport.is_closing():
            return False
        if not self.is_answered() and not self.cycle.more_body:
            self.cycle.keep_alive = False
            self.flow.pause_reading()
            self._receiving_since = None
            return False
        is_told = self._is_in_body and self.is_answered()
        is_free = not is_told and (self.is_answered() or not self.cycle.response_started)
        if is_free:
            body = orjson.dumps({"error": text})
            self.write_answer(status, body, {"content-type": "application/json", **(headers or {})}, close=True)
        self.transport.close()
        return is_free

    def write_answer(self, status: int, body: bytes, headers: Mapping[str, str], *, close: bool) -> None:
        """A whole answer, in one piece."""
        if self.server_state.default_headers is not self._default_headers:  # uvicorn makes them anew with the date
            self._default_headers = self.server_state.default_headers
            self._default_lines = b"".join(b"%b: %b\r\n" % header for header in self._default_headers)
        lines = [f"content-length: {len(body)}\r\n"]
        lines += [f"{name.lower()}: {value}\r\n" for name, value in headers.items()]
        lines.append("connection: close\r\n\r\n" if close else "\r\n")
        head = "".join(lines).encode("latin-1")
        self.transport.write(b"".join((STATUS_LINES[status], self._default_lines, head, body)))

    def is_answered(self) -> bool:
        """Whether nothing that was asked before waits for its answer."""
        return self.cycle is None or self.cycle.response_complete

    def _refuse_head(self) -> None:
        self.turn_away(431, f"the head of the request has more than {LARGEST_HEAD} bytes, the most that is taken")

    def begin(self) -> bool:
        """Whether a subclass takes the request whose head is whole."""
        return False

    def part(self, body: bytes) -> bool:
        """Whether a subclass has taken the request of which this is a part of the body."""
        return False

    def end(self) -> bool:
        """Whether a subclass has taken the request that is whole."""
        return False


class _HeadTooLargeError(Exception):
    """Ends the parsing of a request."""


class _CodingError(Exception):
    """Ends the parsing of a request."""


def _in_origin_form(target: bytes) -> bytes:
    """A path and its query, also where the client gave the whole URL, as it may (RFC 9112, section 3.2.2)."""
    if target.startswith(b"/"):
        return target
    url = httptools.parse_url(target)
    return (url.path or b"/") + (b"?" + url.query if url.query else b"")


class _ReadAhead(FlowControl):
    """Reads no more as long as requests wait that were read already: uvicorn would go on for each that it answers."""

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        """Only where none waits."""
        if not self._waiting:
            super().resume_reading()
