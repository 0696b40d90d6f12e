"""Tiny servers in threads, which say exactly what a test tells them to: a function from a request to bytes.

They know HTTP only as far as a request's end. They do not know what they say.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

END = b""
"""As an answer: the connection is closed instead."""

Say = Callable[["Request"], bytes]


class Request(NamedTuple):
    """Its number, over all connections from 0 on; `first`, its first line, without HTTP/1.1; its head; its body."""

    number: int
    first: str
    head: str
    body: bytes


class Server:
    """At `url`; `connections` is how many there were, `requests` holds what was asked."""

    def __init__(self, say: Say, host: str, tls: ssl.SSLContext | None, *, close_after: bool) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        port = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
        self.requests: list[Request] = []
        self.connections = 0
        self._say, self._tls, self._close_after = say, tls, close_after
        self._lock, self._open = threading.Lock(), list[socket.socket]()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        """Ends every connection and waits for every thread."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._open.append(connection)
                self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
                self._threads[-1].start()

    def _serve(self, plain: socket.socket) -> None:
        connection = plain
        with suppress(OSError):
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls:
                connection = self._tls.wrap_socket(plain, server_side=True)
                self._open.append(connection)
            with connection, connection.makefile("rb") as file:
                while request := self._read(file):
                    answer = self._say(request)
                    connection.sendall(answer)
                    if answer == END or self._close_after:
                        break
        connection.close()

    def _read(self, file: Any) -> Request | None:
        lines = []
        while (line := file.readline()) not in (b"\r\n", b""):
            lines.append(line.decode("latin-1").strip())
        if not lines:
            return None
        head = "\n".join(lines[1:])
        length = re.search(r"^Content-Length: (\d+)$", head, flags=re.M)
        body = file.read(int(length[1])) if length else b""
        with self._lock:
            request = Request(len(self.requests), lines[0].removesuffix(" HTTP/1.1"), head, body)
            self.requests.append(request)
        return request


@contextmanager
def scripted(
    say: Say, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None, close_after: bool = False
) -> Iterator[Server]:
    """A server that says this; `close_after` each answer, without a word about it."""
    server = Server(say, host, tls, close_after=close_after)
    try:
        yield server
    finally:
        server.close()


def answer(body: bytes | object = b"ok", status: int = 200, head: str = "") -> bytes:
    """An HTTP/1.1 answer; what is not bytes goes as JSON; `head` has further lines, each ended by CRLF."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status} Said\r\nContent-Length: {len(raw)}\r\n{head}\r\n".encode() + raw
