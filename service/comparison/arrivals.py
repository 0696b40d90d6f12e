"""Requests that arrive at random while a model works: MLPerf's server scenario, in this process and without HTTP.

An open loop: arrivals do not wait for answers, and latency counts from the moment of arrival, however late the model
came to it. What has arrived while the model was busy runs next, in one batch, as in service/batching.py.

Whether somebody keeps up with arrivals, here or behind a URL, is read off how the least latency grows.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Sequence
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
LEAST_PACE = 0.95
"""Answers per arrival below which a queue grows. A Poisson process of 5,000 arrivals misses its own rate by 1.4 %."""
FEW = 30
"""Arrivals of a block up to which the time of one answer is no small part of the block."""


class Served(NamedTuple):
    """Latencies in seconds of the requests that count, in the order of arrival; how many were answered, in how many
    runs, and how many were given up as too late; answers per arrival, as `pace` has them."""

    kept_s: Seconds
    requests: int
    runs: int
    late: int
    pace: float


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
    found = pace(arrivals_s[:first], answered_s, total - first)
    return Served(answered_s[int(DISCARDED * first) :], first, runs, total - first, found)


def _wait(start: float, until: float) -> float:
    """Seconds since the start, once `until` has come."""
    while (now := time.perf_counter() - start) < until:
        if until - now > SPIN_S:
            time.sleep(until - now - SPIN_S)
    return now


def pace(arrivals_s: Seconds, latencies_s: Seconds, failures: int = 0) -> float:
    """Answers per arrival in the last two thirds of a block, 0 to 1: below 1 where its queue grew or requests failed.

    Of the requests that were answered, in the order of their arrival. While a queue grows, arrivals come 1 + g times as
    fast as answers, where g is the seconds by which every latency grows in a second. In a stable queue somebody finds
    nothing before him now and then, so that the least latency stays what it is, whatever the others are and however
    high one hiccup has driven them. g is therefore that of the least latency, from the middle third to the last one;
    the first one is for a queue that finds its level.
    """
    answered, third = len(latencies_s), len(latencies_s) // 3
    if not answered:
        return 0.0
    middle, end = slice(third, 2 * third), slice(answered - third, None)
    between_s = float(arrivals_s[end].mean() - arrivals_s[middle].mean()) if third else 0.0
    grown_s = float(latencies_s[end].min() - latencies_s[middle].min()) if between_s > 0 else 0.0
    if answered < FEW:
        grown_s -= float(latencies_s.min())
    growth = grown_s / between_s if grown_s > 0 else 0.0
    return answered / (answered + failures) / (1 + growth)


def typical_pace(paces: Sequence[float]) -> float:
    """Of all blocks: a queue that grows does so in most of them, a hiccup hits one."""
    return float(np.median(paces))


def kept_up(paces: Sequence[float]) -> bool:
    """Whether answers came as fast as arrivals, of which one in twenty may be missing."""
    return typical_pace(paces) >= LEAST_PACE
