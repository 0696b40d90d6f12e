"""One request to a hot route, from its head to its answer. It knows no sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

from service import log
from service.asked import Asked
from service.jobs import Job
from service.relay import Relay

Headers = Mapping[bytes, bytes]
Ask = Callable[[bytes, Headers, float, bool], Asked]
"""What a body and its headers ask for; the number is when the request began, the last whether it is read inline."""


class Exchange:
    """What uvicorn knows as a cycle, as far as it looks into one; `path` is as it was sent."""

    message_event = asyncio.Event()  # uvicorn sets it when the connection ends; nobody waits for it
    response_started = False  # an answer is written as a whole

    def __init__(self, route: str, path: bytes, ask: Ask, headers: Headers, *, keep_alive: bool) -> None:
        self.route = route
        self.path = path
        self.headers = headers
        self.keep_alive = keep_alive
        self.response_complete = False
        self.started = perf_counter()
        self.id = log.identify(headers.get(b"x-request-id"))
        self.parts: list[bytes] = []
        self.job: Job | Relay | None = None
        self.span: Any = None
        self.more_body = True
        self._ask: Ask | None = ask
        self._disconnected = False

    def ask(self, *, is_inline: bool) -> Asked:
        """What the whole body asks for. Raises whatever is wrong with it, and SlowRequestError where it is not to be
        read inline."""
        assert self._ask is not None, "it is answered already"
        raw = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
        return self._ask(raw, self.headers, self.started, is_inline)

    def complete(self) -> None:
        """It is answered. What it knows knows it: that must not wait for a collection of garbage."""
        self.response_complete = True
        self.job, self._ask = None, None
        self.parts = []

    @property
    def disconnected(self) -> bool:
        """Whether the client has gone; then its rows need not run."""
        return self._disconnected

    @disconnected.setter
    def disconnected(self, gone: bool) -> None:
        self._disconnected = gone
        if self.job is not None:
            self.job.given_up = True
        self.job, self._ask = None, None
        self.parts = []
