"""Requests that are sent when they fall due, whatever became of those before them. It knows one server and one clock.

Select, and not asyncio, since its timeouts are in microseconds.
"""

from __future__ import annotations

import select
import socket
from collections import Counter, deque
from collections.abc import Sequence
from math import inf
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from service.comparison.client.address import Target, reason
from service.comparison.client.connection import Connection

DESCRIPTORS = 1024
"""Select knows files by numbers below this one."""
AWAKE_S = 150e-6
"""So long before a call is due nothing sleeps: to be woken takes 100 us here, where a small model answers in 200."""


class Schedule:
    """Calls at `arrivals_s`, seconds from the start and in order, over at most so many connections.

    `first` is a connection that is open; further ones go to the same address. A call fails `timeout_s` after it was to
    be sent. After `run`, `sent_s` and `done_s` have the seconds of each call, NaN where there was no good answer, and
    `failed` counts why.
    """

    def __init__(
        self,
        target: Target,
        first: socket.socket,
        arrivals_s: NDArray[np.float64],
        *,
        connections: int,
        timeout_s: float,
    ) -> None:
        self.sent_s, self.done_s = np.full((2, len(arrivals_s)), np.nan)
        self.failed: Counter[str] = Counter()
        self._target, self._most, self._timeout_s = target, connections, timeout_s
        self._arrivals_s: list[float] = [*arrivals_s.tolist(), inf]
        self._family, self._address = first.family, first.getpeername()
        self._idle = [Connection(target, first)]
        self._all = {first.fileno(): self._idle[0]}
        self._busy: dict[int, Connection] = {}  # by call; in the order of the arrivals, as is what waits
        self._waiting: deque[int] = deque()
        self._started = 0.0

    def run(self, payloads: Sequence[bytes]) -> None:
        """Sends the payloads in rotation until every call is answered or has failed."""
        due, last = 0, len(self.sent_s)
        self._started = perf_counter()
        while due < last or self._waiting or self._busy:
            now_s = self._now()
            while self._arrivals_s[due] <= now_s:
                self._waiting.append(due)
                due += 1
            self._send(payloads)
            until_s = min(self._arrivals_s[due], self._give_up())
            if until_s < inf:
                self._listen(until_s)

    def close(self) -> None:
        """Every connection."""
        for connection in self._all.values():
            connection.close()

    def _now(self) -> float:
        return perf_counter() - self._started

    def _send(self, payloads: Sequence[bytes]) -> None:
        while self._waiting and (connection := self._free()) is not None:
            call = self._waiting.popleft()
            self._busy[call] = connection
            connection.take(call, payloads[call % len(payloads)])
            self.sent_s[call] = self._now()
            self._go_on(connection)

    def _free(self) -> Connection | None:
        """One that is idle, the last that was used; a new one; or none."""
        if self._idle:
            return self._idle.pop()
        if len(self._all) >= self._most:
            return None
        try:
            plain = socket.socket(self._family)
        except OSError:  # too many files are open
            self._most = len(self._all)
            return None
        if plain.fileno() >= DESCRIPTORS:
            plain.close()
            self._most = len(self._all)
            return None
        connection = self._all[plain.fileno()] = Connection(self._target, plain, self._address)
        return connection

    def _go_on(self, connection: Connection) -> None:
        try:
            is_whole = connection.step()
        except OSError as error:
            self._fail(connection.call, reason(error))
            self._drop(connection)
            return
        if is_whole:
            self._finish(connection)

    def _finish(self, connection: Connection) -> None:
        call, answers = connection.call, connection.answers
        self.done_s[call] = answers.arrived - self._started
        if answers.status != 200:
            self._fail(call, f"status {answers.status}")
        else:
            del self._busy[call]
        if answers.closes:
            self._drop(connection)
        else:
            self._idle.append(connection)

    def _fail(self, call: int, why: str) -> None:
        self._busy.pop(call, None)
        self.done_s[call] = np.nan
        self.failed[why] += 1

    def _drop(self, connection: Connection) -> None:
        del self._all[connection.descriptor]
        connection.close()

    def _give_up(self) -> float:
        """Fails what is too late; when the next will be."""
        late_s = self._now() - self._timeout_s
        while self._busy and self._arrivals_s[call := next(iter(self._busy))] <= late_s:
            self._drop(self._busy[call])
            self._fail(call, f"no whole answer within {self._timeout_s:g} s")
        while self._waiting and self._arrivals_s[self._waiting[0]] <= late_s:
            self._fail(self._waiting.popleft(), f"no connection was free within {self._timeout_s:g} s")
        oldest = next(iter(self._busy), self._waiting[0] if self._waiting else -1)  # the last "arrival" is never
        return self._arrivals_s[oldest] + self._timeout_s

    def _listen(self, until_s: float) -> None:
        """Waits for answers until then, and takes them."""
        writers = [each.descriptor for each in self._all.values() if each.waits == "to write"]
        readers = [each for each in self._all if each not in writers] if writers else self._all
        readable, writable, _ = select.select(readers, writers, [], max(0.0, until_s - self._now() - AWAKE_S))
        for descriptor in (*readable, *writable):
            connection = self._all[descriptor]
            if connection in self._idle:  # the server closed it
                self._idle.remove(connection)
                self._drop(connection)
            else:
                self._go_on(connection)
