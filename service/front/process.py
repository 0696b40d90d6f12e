"""uvicorn, set up for the app: its protocol, its limits, its end. It does not know where connections come from."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import threading
from functools import partial

import uvicorn
from fastapi import FastAPI

from service.comparison.exclusive import Exclusive
from service.front.connection import LimitedProtocol
from service.front.direct import DirectProtocol
from service.predict.numbers import Reader
from service.statistics import Statistics

log = logging.getLogger("service")

HANDED_S = 0.1
"""For a request on a connection that came just before the end."""
END_S = 1.0
"""After the drain, for what only this process waits for: a run or a load that takes longer is not waited for."""
STOP_S = 2.0
"""A comparison is told so many seconds before the end of the drain, and answers."""


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


class Server(uvicorn.Server):
    """Looks after its connections: a request that takes too long to come in is given up."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(_config(app))
        self._statistics: Statistics = app.state.statistics
        self._timeout_s: float = app.state.settings.timeout_s
        self._drain_s: float = app.state.settings.drain_s
        self._comparing: Exclusive = app.state.comparing
        self._connecting: set[asyncio.Task[object]] = set()

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
        self.close()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        await super().shutdown(sockets=sockets)
        self._comparing.end()  # it has a thread of its own, which the process would wait for
        self._statistics.publish()

    def close(self) -> None:
        """Takes no more connections."""

    def take(self, connection: socket.socket) -> None:
        """Serves a connection that was accepted."""
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        task = loop.create_task(loop.connect_accepted_socket(self._protocol, connection))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def _protocol(self) -> asyncio.Protocol:
        made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made

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
