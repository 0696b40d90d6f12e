"""HTTP/1.1 answers out of bytes as they arrive: by length, in chunks, or to the connection's end.

It knows heads and bodies. It does not know what a request asked, or what an answer says. Whatever is wrong with one is
an OSError, as is what goes wrong between two machines.
"""

from __future__ import annotations

import socket
from time import perf_counter

HEAD_BYTES = 64 * 1024
ANSWER_BYTES = 256 * 2**20
"""The most of an answer that is read."""


class Answers:
    """Reads one answer after the other off a socket, whether it blocks or not, into one buffer.

    After `receive` gave True there are `status`, `body`, `field`, and `closes`: whether the connection ends with it.
    `arrived` is when its last byte was read, before anything was made of it.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = bytearray(64 * 1024)
        self.arrived = 0.0
        self.expect()

    def expect(self) -> None:
        """Forgets the last answer: another request is to be sent."""
        self.status = self.received = self._body = self._at = 0
        self.closes = False
        self._head = self._lower = b""
        self._end: int | None = None
        self._is_chunked = False
        self._chunks: list[tuple[int, int]] = []

    def receive(self) -> bool:
        """Reads once; whether the answer is whole now. Raises ConnectionError where it breaks off or is no HTTP."""
        if self.received == len(self._buffer):
            self._grow()
        got = self._connection.recv_into(memoryview(self._buffer)[self.received :])
        self.arrived = perf_counter()
        self.received += got
        if not got:
            return self._ended()
        while not self._body:
            end = self._buffer.find(b"\r\n\r\n", 0, self.received)
            if end < 0:
                self._check_beginning(self.received)
                return False
            self._read_head(end)
        if self._is_chunked:
            self._read_chunks()
        if self._end is not None and self.received > self._end:
            raise ConnectionError("more came than one answer")
        return self.received == self._end

    def field(self, name: str) -> str | None:
        """A header of the answer; `name` is in lower case."""
        start = self._lower.find(b"\r\n%b:" % name.encode())
        if start < 0:
            return None
        start += len(name) + 3
        return self._head[start : self._head.index(b"\r\n", start)].decode("latin-1").strip()

    @property
    def body(self) -> bytes:
        """The body of the whole answer."""
        if self._is_chunked:
            return b"".join(bytes(self._buffer[start : start + size]) for start, size in self._chunks)
        return bytes(self._buffer[self._body : self.received])

    def _grow(self) -> None:
        if self.received >= ANSWER_BYTES:
            raise ConnectionError(f"the answer is longer than {ANSWER_BYTES} bytes")
        self._buffer = self._buffer + bytes(len(self._buffer))  # not in place: a view of it may still stand

    def _check_beginning(self, head_bytes: int) -> None:
        if head_bytes > HEAD_BYTES or not self._buffer.startswith(b"HTTP/1."[: self.received]):
            raise ConnectionError("what came is no HTTP/1.1 answer")

    def _read_head(self, end: int) -> None:
        self._check_beginning(end)
        self._head = bytes(self._buffer[: end + 2])
        self._lower = self._head.lower()
        try:
            self.status = int(self._head[9:12])
            length = None if (text := self.field("content-length")) is None else _natural(text, 10)
        except ValueError as error:
            raise ConnectionError("what came is no HTTP/1.1 answer") from error
        if 100 <= self.status < 200:  # "continue" and its like: the answer follows
            self.received -= end + 4
            self._buffer[: self.received] = self._buffer[end + 4 : end + 4 + self.received]
            return
        self._body = self._at = end + 4
        connection = (self.field("connection") or "").lower()
        self.closes = "close" in connection or (self._head.startswith(b"HTTP/1.0") and "keep-alive" not in connection)
        self._is_chunked = "chunked" in (self.field("transfer-encoding") or "").lower()
        if self.status in (204, 304):
            length = 0
        if not self._is_chunked and length is not None:
            self._end = self._body + length

    def _read_chunks(self) -> None:
        while (line := self._buffer.find(b"\r\n", self._at, self.received)) >= 0:
            try:
                size = _natural(self._buffer[self._at : line].partition(b";")[0].decode("latin-1").strip(), 16)
            except ValueError as error:
                raise ConnectionError("a chunk of the answer does not begin with its size") from error
            if size == 0:  # fields may follow, then an empty line
                end = self._buffer.find(b"\r\n\r\n", line, self.received)
                self._end = end + 4 if end >= 0 else None
                return
            if line + size + 4 > self.received:
                return
            self._chunks.append((line + 2, size))
            self._at = line + size + 4

    def _ended(self) -> bool:
        if self._body and self._end is None and not self._is_chunked:  # a body without a length goes on to the end
            self.closes = True
            return True
        what = "in the middle of an answer" if self.received else "without an answer"
        raise ConnectionResetError(f"the connection was closed {what}")


def _natural(text: str, base: int) -> int:
    """A number without a sign. Raises ValueError."""
    if not text.isascii() or not text.isalnum():
        raise ValueError(text)
    return int(text, base)
