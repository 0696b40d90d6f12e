"""Requests that arrive at random while a model works: MLPerf's server scenario, in this process and without HTTP.

An open loop: arrivals do not wait for answers, and latency counts from the moment of arrival, however late the model
came to it. What has arrived while the model was busy runs next, in one batch, as in service/batching.py.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.comparison.garbage import without_garbage_collection
from service.comparison.speed import DISCARDED
from service.comparison.statistics import Seconds
from service.comparison.subject import Answering

SPIN_S = 0.0002
"""The last moment before an arrival is waited for awake: sleep overshoots by about half of it."""
PATIENCE = 3.0
LATE_RATIO, LATE_S = 1.5, 0.01


class Served(NamedTuple):
    """Latencies in seconds of the requests that count, in the order of arrival; how many were answered, in how many
    runs, and how many were given up as too late; whether the model kept up."""

    kept_s: Seconds
    requests: int
    runs: int
    late: int
    kept_up: bool


def poisson(rate: float, seconds: float, rng: np.random.Generator) -> Seconds:
    """Arrivals of a Poisson process: seconds from the start, in order, at least one.

    Given their number, arrivals of a Poisson process are uniform (Kingman 1993, section 2.4).
    """
    count = max(1, int(rng.poisson(rate * seconds)))
    return np.sort(rng.uniform(0.0, seconds, count))


def serve(model: Answering, inputs: NDArray[np.float32], arrivals_s: Seconds, max_batch: int) -> Served:
    """Answers one row of inputs [N, ...], in rotation, for each arrival; at most `max_batch` rows in a run. What is not
    answered PATIENCE times the time of all arrivals after the start, plus a second, is given up."""
    due, total, latencies_s = arrivals_s.tolist(), len(arrivals_s), np.empty(len(arrivals_s))
    rows = np.resize(inputs, (len(inputs) + max_batch, *inputs.shape[1:]))  # so that a batch never wraps around
    first = runs = 0
    end = PATIENCE * due[-1] + 1.0
    with without_garbage_collection():
        start = time.perf_counter()
        while first < total:
            now = _wait(start, due[first])
            if now > end:
                break
            last = min(bisect_right(due, now, first), first + max_batch)
            place = first % len(inputs)
            model.run(rows[place : place + last - first])
            latencies_s[first:last] = time.perf_counter() - start - arrivals_s[first:last]
            first, runs = last, runs + 1
    answered_s = latencies_s[:first]
    did = first == total and kept_up(answered_s)
    return Served(answered_s[int(DISCARDED * first) :], first, runs, total - first, did)


def _wait(start: float, until: float) -> float:
    """Seconds since the start, once `until` has come."""
    while (now := time.perf_counter() - start) < until:
        if until - now > SPIN_S:
            time.sleep(until - now - SPIN_S)
    return now


def kept_up(latencies_s: Seconds) -> bool:
    """Whether the queue did not grow: the last tenth's median is at most 1.5 times the middle's, or 10 ms. Of a queue
    that grows evenly it is 1.9 times."""
    if len(latencies_s) < 20:
        return bool(latencies_s[-1] <= max(LATE_S, LATE_RATIO * float(np.median(latencies_s))))
    tenth = len(latencies_s) // 10
    middle, end = latencies_s[4 * tenth : 6 * tenth], latencies_s[-tenth:]
    return bool(np.median(end) <= max(LATE_S, LATE_RATIO * float(np.median(middle))))
