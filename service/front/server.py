"""uvicorn, set up for the app: its protocol, its limits, and where its connections come from.

It knows processes and sockets, not what is served.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import sys
import threading
from contextlib import suppress
from functools import partial

import uvicorn
from fastapi import FastAPI

from service.board import Board
from service.comparison.exclusive import Exclusive
from service.front.connection import LimitedProtocol
from service.front.direct import DirectProtocol
from service.front.workers import READY, supervise
from service.predict.numbers import Reader
from service.statistics import Statistics

log = logging.getLogger("service")

MOST_AT_ONCE = 64
"""Connections taken from the channel at a time."""
HANDED_S = 0.1
"""For a request on a connection that came just before the end."""
END_S = 1.0
"""After the drain, for what only this process waits for: a run or a load that takes longer is not waited for."""
STOP_S = 2.0
"""A comparison is told so many seconds before the end of the drain, and answers."""
GC_THRESHOLD = 50_000


def serve_alone(app: FastAPI, listener: socket.socket) -> None:
    """Serves in this process until SIGTERM or Ctrl-C, and ends what is in flight."""
    _settle()
    _Server(app).run(sockets=[listener])


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


def _config(app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=partial(DirectProtocol, state=app.state, reader=Reader()),  # type: ignore[arg-type]  # as good as a class
        loop="uvloop",
        ws="none",
        proxy_headers=False,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=app.state.settings.drain_s,
    )


class _Server(uvicorn.Server):
    """Looks after its connections: a request that takes too long to come in is given up."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(_config(app))
        self._statistics: Statistics = app.state.statistics
        self._timeout_s: float = app.state.settings.timeout_s
        self._drain_s: float = app.state.settings.drain_s
        self._comparing: Exclusive = app.state.comparing

    async def on_tick(self, counter: int) -> bool:
        """As uvicorn's, ten times a second."""
        self._statistics.publish()
        for connection in list(self.server_state.connections):
            if isinstance(connection, LimitedProtocol):
                connection.look_after(self._timeout_s)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, after a moment in which every connection gets one more answer. It does not outlast its time."""
        self.server_state.is_ending = True  # type: ignore[attr-defined]  # see LimitedProtocol
        loop = asyncio.get_running_loop()
        loop.call_later(max(0.0, self._drain_s - STOP_S), self._comparing.end)
        loop.call_later(self._drain_s, self._give_up)
        last = threading.Timer(self._drain_s + END_S, _end_now)
        last.daemon = True
        last.start()
        await asyncio.sleep(HANDED_S)
        await super().shutdown(sockets=sockets)
        self._comparing.end()  # it has a thread of its own, which the process would wait for
        self._statistics.publish()

    def _give_up(self) -> None:
        """uvicorn does the same for the requests that have a task."""
        for connection in list(self.server_state.connections):
            if isinstance(connection, DirectProtocol):
                connection.give_up()


def _end_now() -> None:
    """Python would wait for the threads in which models run or are loaded; all who asked have their answers."""
    log.error("something still ran %g s after the time to end: it was not waited for", END_S)
    sys.stderr.flush()
    os._exit(0)


class _Worker(_Server):
    """Takes its connections from the parent's channel, and ends when the parent closes it."""

    def __init__(self, app: FastAPI, channel: socket.socket) -> None:
        super().__init__(app)
        self._channel = channel
        app.state.library.when_ready(self._tell)
        self._connecting: set[asyncio.Task[object]] = set()

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
        await asyncio.gather(*self._connecting, return_exceptions=True)
        await super().shutdown(sockets=sockets)

    def _receive(self) -> bool:
        """Takes what the parent hands over; whether there was something."""
        try:
            tokens, descriptors, _, _ = socket.recv_fds(self._channel, MOST_AT_ONCE, MOST_AT_ONCE)
        except BlockingIOError:
            return False
        loop = asyncio.get_running_loop()
        for descriptor in descriptors:
            connection = socket.socket(fileno=descriptor)
            connection.setblocking(False)
            task = loop.create_task(loop.connect_accepted_socket(self._protocol, connection))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)
        if not tokens:
            loop.remove_reader(self._channel.fileno())
            self.should_exit = True
        return bool(tokens)

    def _protocol(self) -> asyncio.Protocol:
        made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made
