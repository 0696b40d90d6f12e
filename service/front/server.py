"""Serves the app in one process or in several: where the connections of each come from.

It knows processes and sockets, not what is served.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from contextlib import suppress

from fastapi import FastAPI

from service.board import Board
from service.front.process import Server
from service.front.workers import READY, supervise

log = logging.getLogger("service")

MOST_AT_ONCE = 64
"""Connections taken at a time."""
FULL_S = 0.2
"""Until the next try, where no more files may be open."""
GC_THRESHOLD = 50_000


def serve_alone(app: FastAPI, listener: socket.socket) -> None:
    """Serves in this process until SIGTERM or Ctrl-C, and ends what is in flight."""
    _settle()
    _Alone(app, listener).run(sockets=[])


def serve_with_workers(app: FastAPI, listener: socket.socket, count: int) -> None:
    """Serves in `count` processes, each with models of its own, until SIGTERM or Ctrl-C."""
    _settle()
    board = Board(count)

    def work(number: int, channel: socket.socket) -> None:
        app.state.statistics.share(board, number)
        _Worker(app, channel).run(sockets=[])

    supervise(listener, count, work)


def _settle() -> None:
    """A collection of garbage makes everyone wait: what is there by now is left out, and the rest is done seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 100)


class _Alone(Server):
    """Takes its connections from the port, all that wait: libuv takes one between two runs of a model, and the last of
    many that come at once would wait for as many runs."""

    def __init__(self, app: FastAPI, listener: socket.socket) -> None:
        super().__init__(app)
        self._listener = listener

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, then the port is listened to."""
        await super().startup(sockets=sockets)
        self._listener.setblocking(False)
        self._listen()

    def close(self) -> None:
        """As any server's; who comes now is refused by the kernel."""
        asyncio.get_running_loop().remove_reader(self._listener.fileno())
        self._listener.close()

    def _listen(self) -> None:
        if self._listener.fileno() >= 0:
            asyncio.get_running_loop().add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            for _ in range(MOST_AT_ONCE):
                with suppress(ConnectionError):  # it has gone already
                    self.take(self._listener.accept()[0])
        except BlockingIOError:
            pass
        except OSError as error:  # no more files may be open: what waits is accepted later
            log.error("cannot accept a connection: %s", error.strerror)
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._listener.fileno())
            loop.call_later(FULL_S, self._listen)


class _Worker(Server):
    """Takes its connections from the parent's channel, and ends when the parent closes it."""

    def __init__(self, app: FastAPI, channel: socket.socket) -> None:
        super().__init__(app)
        self._channel = channel
        app.state.library.when_ready(self._tell)

    def _tell(self) -> None:
        with suppress(OSError):  # the parent has gone
            self._channel.send(READY)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, then the channel is listened to."""
        await super().startup(sockets=sockets)
        self._channel.setblocking(False)
        asyncio.get_running_loop().add_reader(self._channel.fileno(), self._receive)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As any server's, after the connections that were handed over already."""
        with suppress(OSError):  # the parent has closed it
            self._channel.shutdown(socket.SHUT_RDWR)  # from now on the parent asks another worker
        while self._receive():
            pass
        await super().shutdown(sockets=sockets)

    def _receive(self) -> bool:
        """Takes what the parent hands over; whether there was something."""
        try:
            tokens, descriptors, _, _ = socket.recv_fds(self._channel, MOST_AT_ONCE, MOST_AT_ONCE)
        except BlockingIOError:
            return False
        for descriptor in descriptors:
            self.take(socket.socket(fileno=descriptor))
        if not tokens:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            self.should_exit = True
        return bool(tokens)
