"""One connection that never blocks: it opens, then carries one request after the other, a step at a time.

Who owns it waits until its socket can be read or written, as `waits` says, then calls `step`. It knows no time.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial
from typing import Any, Literal, TypeVar

from service.comparison.client.address import Target
from service.comparison.client.answers import Answers

Wait = Literal["to read", "to write", "for a request"]
Steps = Generator[Wait, None, None]
Done = TypeVar("Done")


class Connection:
    """Over a socket that is connected, TLS included, or to `address`, which is as `getpeername` gives it.

    `call` is the number of the request that it carries, -1 while there is none; `answers` holds the last answer.
    """

    def __init__(self, target: Target, connection: socket.socket, address: Any = None) -> None:
        connection.setblocking(False)
        self._target, self._socket = target, connection
        self._steps = self._life(address)
        self._request = b""
        self.descriptor = connection.fileno()
        self.answers = Answers(connection)
        self.call = -1
        self.waits: Wait = "for a request"

    def take(self, call: int, request: bytes) -> None:
        """The request that the next steps send, as soon as the connection is open."""
        self.call, self._request = call, request

    def step(self) -> bool:
        """Goes on as far as that goes without waiting; whether the answer is whole. Raises OSError."""
        self.waits = next(self._steps)
        return self.waits == "for a request"

    def close(self) -> None:
        """For good."""
        self._socket.close()

    def _life(self, address: Any) -> Steps:
        if address is not None:
            yield from self._open(address)
        while True:
            yield from self._exchange(memoryview(self._request))
            yield "for a request"

    def _open(self, address: Any) -> Steps:
        with suppress(BlockingIOError):
            self._socket.connect(address)
        yield "to write"
        if wrong := self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(wrong, os.strerror(wrong))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._target.tls is not None:
            secure = self._target.tls.wrap_socket(
                self._socket, server_hostname=self._target.host, do_handshake_on_connect=False
            )
            self._socket, self.answers = secure, Answers(secure)
            yield from _done(secure.do_handshake, "to read")

    def _exchange(self, left: memoryview) -> Steps:
        self.answers.expect()
        while left:
            sent = yield from _done(partial(self._socket.send, left), "to write")
            left = left[sent:]
        yield "to read"
        while not (yield from _done(self.answers.receive, "to read")):
            pass


def _done(operation: Callable[[], Done], blocked: Wait) -> Generator[Wait, None, Done]:
    """What an operation gives, once it can be done without waiting; TLS may have to read in order to write."""
    while True:
        try:
            return operation()
        except ssl.SSLWantReadError:
            yield "to read"
        except ssl.SSLWantWriteError:
            yield "to write"
        except BlockingIOError:
            yield blocked
