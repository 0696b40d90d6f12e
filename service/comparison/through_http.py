"""Times the whole path of a request: HTTP, parsing, queue, model, answer. It knows servers by their URL alone.

As everywhere, a server is asked for one model at a time, in blocks, in random order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from service.comparison.arrivals import pace, poisson
from service.comparison.data import Data
from service.comparison.load import Calls, closed_loop, open_loop
from service.comparison.plan import Course, Plan
from service.comparison.remote import RemoteModel
from service.comparison.speed import kept
from service.comparison.statistics import Seconds, mean
from service.model import Prediction

Inputs = NDArray[np.float32]
MOST_BLOCKS = 5
BLOCK_S = 0.3
ARRIVALS_S = 0.5
NOTHING = Prediction(np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32))
MOST_ARRIVALS = 5_000
"""In a block, which is shorter at a very high rate."""
PAYLOADS = 256
"""Requests of one row, each another example, that are sent in rotation; of batches as many rows, at least one batch."""


@dataclass(frozen=True)
class Asked:
    """What one model did behind its URL: blocks of single rows, of batches, and of arrivals, in seconds; answers per
    arrival in each block; failures of the first two, and of the arrivals, which came at `rate` a second."""

    remote: RemoteModel
    single: list[Seconds] = field(default_factory=list)
    batched: list[Seconds] = field(default_factory=list)
    arrived: list[Seconds] = field(default_factory=list)
    paces: list[float] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    arrival_failures: list[int] = field(default_factory=list)
    rate: float = 0.0


class Prepared:
    """A model behind a URL, for timing: requests are made beforehand, and answers are not read."""

    def __init__(self, remote: RemoteModel) -> None:
        self._remote = remote
        self._requests: dict[int, tuple[Inputs, bytes]] = {}  # by the identity of the rows, which are kept for it

    def run(self, inputs: Inputs) -> Prediction:
        """Asks, and gives nothing. Raises RemoteError."""
        if id(inputs) not in self._requests:
            self._requests[id(inputs)] = inputs, self._remote.request(inputs)
        self._remote.send(self._requests[id(inputs)][1])
        return NOTHING


def through_http(
    remotes: Sequence[RemoteModel], data: Data, plan: Plan, course: Course, order: np.random.Generator
) -> list[Asked]:
    """Asks every model for single rows and batches in closed loops, then for single rows that arrive at a rate: the
    plan's, else half of what the slowest of them answered in its closed loop, through HTTP like all else here."""
    asked = [Asked(remote) for remote in remotes]
    single = [_payloads(remote, data, 1) for remote in remotes]
    batched = [_payloads(remote, data, plan.batch) for remote in remotes]
    for index, own in _turns(asked, plan, course, order):
        _add(own, own.single, closed_loop(own.remote.target, single[index], BLOCK_S, 3))
        _add(own, own.batched, closed_loop(own.remote.target, batched[index], BLOCK_S, 3))
        course.now(seconds=2 * BLOCK_S, is_own_traffic=True)
    rate = plan.rate or _half_of_the_slowest(asked)
    arrivals_s: Seconds = np.zeros(0)
    for place, (index, own) in enumerate(_turns(asked, plan, course, order)):
        if place % len(asked) == 0:  # the same for every model
            arrivals_s = poisson(rate, arrivals_take_s(rate), order)
        calls = open_loop(own.remote.target, single[index], arrivals_s)
        own.arrived.append(kept(calls.latencies_s))
        own.paces.append(pace(calls.intended_s, calls.latencies_s, calls.failures))
        own.arrival_failures.append(calls.failures)
        course.now(seconds=ARRIVALS_S, is_own_traffic=True)
    return [replace(own, rate=rate) for own in asked]


def _turns(
    asked: Sequence[Asked], plan: Plan, course: Course, order: np.random.Generator
) -> Iterator[tuple[int, Asked]]:
    """Every model once in each round, in random order: its place, and where what it does belongs, which is nowhere in
    the first round: that warms up."""
    for round_ in range(_blocks(plan) + 1):
        for index in order.permutation(len(asked)):
            remote = asked[index].remote
            course.now(f"asking {remote.target.url} for {remote.name}", is_own_traffic=True)
            yield int(index), asked[index] if round_ else Asked(remote)


def _half_of_the_slowest(asked: Sequence[Asked]) -> float:
    """Requests per second. One where nobody gave a good answer."""
    means_s = [mean(own.single) for own in asked if own.single]
    return 0.5 / max(means_s) if means_s else 1.0


def arrivals_take_s(rate: float) -> float:
    """The length of a block of arrivals."""
    return min(ARRIVALS_S, MOST_ARRIVALS / rate)


def seconds(models: int, plan: Plan) -> float:
    """That all of it takes for so many models, at least."""
    return models * (_blocks(plan) + 1) * (2 * BLOCK_S + ARRIVALS_S)


def _blocks(plan: Plan) -> int:
    return min(MOST_BLOCKS, plan.blocks)


def _payloads(remote: RemoteModel, data: Data, rows: int) -> list[bytes]:
    count = max(1, min(PAYLOADS, len(data.inputs)) // rows)
    inputs = np.resize(data.inputs, (count * rows, *data.inputs.shape[1:]))
    return [remote.request(part) for part in np.split(inputs, count)]


def _add(own: Asked, blocks: list[Seconds], calls: Calls) -> None:
    if len(calls.latencies_s):
        blocks.append(kept(calls.latencies_s))
    own.failures.append(calls.failures)
