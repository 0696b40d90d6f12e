"""One connection that is kept alive, for one request after the other. It knows no status and no format."""

from __future__ import annotations

import socket
import ssl
import struct
from time import perf_counter

from service.comparison.client.address import Target, dial
from service.comparison.client.answers import Answers

LATE = (TimeoutError, BlockingIOError)


class Line:
    """One connection, kept alive: a request, then its answer. Opened when it is needed, and again after it broke."""

    def __init__(self, target: Target, timeout_s: float) -> None:
        self._target, self._timeout_s = target, timeout_s
        self._connection: socket.socket | None = None
        self.asked = 0.0

    @property
    def is_open(self) -> bool:
        """As far as is known: the other side may have closed it."""
        return self._connection is not None

    def open(self) -> None:
        """Connects, unless it is. Raises OSError."""
        if self._connection is None:
            self._connection = dial(self._target, self._timeout_s)
            _leave_time_to_kernel(self._connection, self._timeout_s)
            self.answers = Answers(self._connection)

    def ask(self, request: bytes) -> Answers:
        """The answer, good until the next request. Raises OSError, and then the next request is on a new connection.

        `asked` is when this began, with the opening of the connection where it had to be opened.
        """
        was_open, self.asked = self.is_open, perf_counter()
        try:
            self.open()
            assert self._connection is not None
            self.answers.expect()
            if was_open:
                self.asked = perf_counter()
            self._exchange(self._connection, request)
        except OSError:
            self.close()
            raise
        if self.answers.closes:
            self.close()
        return self.answers

    def close(self) -> None:
        """Until the next request."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _exchange(self, connection: socket.socket, request: bytes) -> None:
        late = self.asked + self._timeout_s
        try:
            connection.sendall(request)
            while not self.answers.receive():
                if perf_counter() > late:
                    raise TimeoutError
        except LATE as error:
            raise TimeoutError(f"no whole answer within {self._timeout_s:g} s") from error


def _leave_time_to_kernel(connection: socket.socket, timeout_s: float) -> None:
    """Python's own timeouts cost a call of `poll` before each one that sends or receives; TLS heeds no others."""
    if isinstance(connection, ssl.SSLSocket):
        return
    connection.settimeout(None)
    whole, rest = divmod(max(1, round(timeout_s * 1e6)), 1_000_000)
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", whole, rest))
