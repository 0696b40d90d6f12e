"""One request to a hot route, from its head to its answer. It knows no sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any, NamedTuple

from service import log
from service.asked import Asked
from service.jobs import Job
from service.relay import Relay

Headers = Mapping[bytes, bytes]
Ask = Callable[[bytes, Headers, float, bool], Asked]
"""What a body and its headers ask for; the number is when the request began, the last whether it is read inline."""


LARGEST_KNOWN = 2**12
"""Bytes of a head that is kept: connections may be many."""


class Head(NamedTuple):
    """What the head of a request says: its route, its path as it was sent, what it asks for, how many bytes follow."""

    route: str
    path: bytes
    ask: Ask
    headers: Headers
    length: int
    keep_alive: bool


class KnownHead(NamedTuple):
    """A head and its bytes. The same bytes say the same again: clients hardly ever send others on a connection."""

    raw: bytes
    head: Head

    def body_in(self, data: bytes) -> bytes | None:
        """The body, where `data` is this head and its body and nothing else."""
        is_same = len(data) == len(self.raw) + self.head.length and data.startswith(self.raw)
        return data[len(self.raw) :] if is_same else None


def known_head(head: Head, data: bytes) -> KnownHead | None:
    """A head that was read from `data`, where that began a request and held it whole and nothing else."""
    length = len(data) - head.length
    is_whole = 0 < length <= LARGEST_KNOWN and data.find(b"\r\n\r\n") == length - 4
    return KnownHead(data[:length], head) if is_whole else None


class Exchange:
    """What uvicorn knows as a cycle, as far as it looks into one."""

    message_event = asyncio.Event()  # uvicorn sets it when the connection ends; nobody waits for it
    response_started = False  # an answer is written as a whole

    def __init__(self, head: Head) -> None:
        self.head = head
        self.keep_alive = head.keep_alive
        self.response_complete = False
        self.started = perf_counter()
        self.id = log.identify(head.headers.get(b"x-request-id"))
        self.parts: list[bytes] = []
        self.job: Job | Relay | None = None
        self.span: Any = None
        self.more_body = True
        self._ask: Ask | None = head.ask
        self._disconnected = False

    def ask(self, *, is_inline: bool) -> Asked:
        """What the whole body asks for. Raises whatever is wrong with it, and SlowRequestError where it is not to be
        read inline."""
        assert self._ask is not None, "it is answered already"
        raw = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
        return self._ask(raw, self.head.headers, self.started, is_inline)

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
