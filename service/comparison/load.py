"""Load on a server from one thread: requests made beforehand, one after the other or as they fall due.

It does not know what requests ask, nor whether an answer of status 200 is right. A closed loop sends the next request
when the last was answered, so a server that stalls is asked less meanwhile. An open loop sends at given times whatever
the server does, and latency counts from the time at which a request was to be sent: what a stall does to those who come
meanwhile is in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import cycle
from time import perf_counter
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.comparison.client.address import Target, dial, reason
from service.comparison.client.line import Line
from service.comparison.client.schedule import DESCRIPTORS, Schedule
from service.comparison.garbage import without_garbage_collection
from service.errors import BusyError, RemoteError

Seconds = NDArray[np.float64]
Opened = TypeVar("Opened")

FAILURES_IN_A_ROW = 100
REASONS = 8
"""So many are told apart."""


class Calls(NamedTuple):
    """Good answers in the order in which they were to be sent, each an entry of the arrays, and the failures.

    Seconds: how long each took from when it was to be sent, when that was from the start, and when it was sent.
    """

    latencies_s: Seconds
    intended_s: Seconds
    sent_s: Seconds
    failures: int
    reasons: dict[str, int]


def closed_loop(
    target: Target,
    payloads: Sequence[bytes],
    seconds: float,
    least_calls: int,
    *,
    timeout_s: float = 10.0,
    longest_s: float = 60.0,
) -> Calls:
    """One connection, one request after the other, for so long and so many calls; stopped after `longest_s`, or after
    FAILURES_IN_A_ROW. Raises RemoteError where nothing can be connected to.

    Where the server ends the connection, opening the next one is part of the next call.
    """
    times: list[tuple[float, float]] = []
    failed: Counter[str] = Counter()
    in_a_row = 0
    with closing(Line(target, timeout_s)) as line, without_garbage_collection():
        _first(target, line.open)
        started = after = perf_counter()
        for payload in cycle(payloads):
            enough = after - started >= seconds and len(times) + failed.total() >= least_calls
            if enough or after - started >= longest_s or in_a_row >= FAILURES_IN_A_ROW:
                break
            wrong = _ask(line, payload)
            after = perf_counter()
            if wrong is None:
                times.append((line.asked, line.answers.arrived))
                in_a_row = 0
            else:
                failed[wrong] += 1
                in_a_row += 1
    sent_s, done_s = np.array(times, dtype=np.float64).reshape(-1, 2).T - started
    return Calls(done_s - sent_s, sent_s, sent_s, failed.total(), _most_common(failed))


def open_loop(
    target: Target,
    payloads: Sequence[bytes],
    arrivals_s: Seconds,
    *,
    connections: int = 64,
    timeout_s: float = 10.0,
) -> Calls:
    """Requests sent at these seconds from the start, each on a connection that is idle.

    More are opened up to `connections`; beyond, requests wait, and that counts. One that has no answer `timeout_s`
    after it was to be sent has failed, so that all ends so long after the last arrival. Raises RemoteError where
    nothing can be connected to, and BusyError where this process holds too many files.
    """
    intended_s = np.sort(arrivals_s)
    first = _first(target, lambda: dial(target, timeout_s))
    if first.fileno() >= DESCRIPTORS:
        first.close()
        raise BusyError(f"this process holds {DESCRIPTORS} open files or more; expected fewer, to send at given times")
    schedule = Schedule(target, first, intended_s, connections=connections, timeout_s=timeout_s)
    with closing(schedule), without_garbage_collection():
        schedule.run(payloads)
    good, latencies_s = ~np.isnan(schedule.done_s), schedule.done_s - intended_s
    failed = schedule.failed
    return Calls(latencies_s[good], intended_s[good], schedule.sent_s[good], failed.total(), _most_common(failed))


def _ask(line: Line, payload: bytes) -> str | None:
    """What went wrong, if anything did."""
    try:
        status = line.ask(payload).status
    except OSError as error:
        return reason(error)
    return None if status == 200 else f"status {status}"


def _first(target: Target, connect: Callable[[], Opened]) -> Opened:
    try:
        return connect()
    except OSError as error:
        raise RemoteError(f"{target.url}: {reason(error)}; expected a server that can be connected to") from error


def _most_common(failed: Counter[str]) -> dict[str, int]:
    named = dict(failed.most_common(REASONS))
    others = failed.total() - sum(named.values())
    return {**named, "others": others} if others else named
