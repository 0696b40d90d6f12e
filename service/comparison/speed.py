"""Times models in this process: one at a time, in short blocks, in random order. It knows no statistics.

Why blocks and not turns: a big model evicts a small one's weights from the cache, and threads that spin while they
wait slow the others 2 to 3 times. So none spins (service/model.py), a model runs alone for at least 200 ms, and the
first tenth of that, in which it finds its cache again, is thrown away. Random order keeps a drift of the machine from
favouring one of them. Turns are a result of their own: `turns`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.comparison.energy import Meter
from service.comparison.garbage import without_garbage_collection
from service.comparison.statistics import Seconds
from service.comparison.subject import Answering

BLOCK_S = 0.2
DISCARDED = 0.1
WARM_UP_S = 0.1
FEWEST_CALLS = 3
"""A block has at least so many calls, however long they take: one to discard and two to keep."""


class Block(NamedTuple):
    """One block of a stream: latencies in seconds of the calls that count, and what all its calls together took.

    `cpu_s` is the processor time of this process, all threads; `joules` is None where no meter tells it.
    """

    kept_s: Seconds
    calls: int
    cpu_s: float
    joules: float | None


class Stream:
    """One model that answers the same batches in rotation, [batch, ...] each, one call after the other.

    `clock` gives nanoseconds.
    """

    def __init__(
        self,
        model: Answering,
        batches: Sequence[NDArray[np.float32]],
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._model = model
        self._batches = cycle(batches)
        self._clock = clock

    def call(self) -> int:
        """Answers the next batch, and gives the nanoseconds that took."""
        batch = next(self._batches)
        start = self._clock()
        self._model.run(batch)
        return self._clock() - start

    def run(self, seconds: float) -> Seconds:
        """Latencies in seconds of consecutive calls, for at least `seconds` and at least FEWEST_CALLS calls."""
        call, latencies_ns = self.call, list[int]()
        deadline = self._clock() + seconds * 1e9
        while self._clock() < deadline or len(latencies_ns) < FEWEST_CALLS:
            latencies_ns.append(call())
        return np.array(latencies_ns) / 1e9


def batches(inputs: NDArray[np.float32], size: int) -> list[NDArray[np.float32]]:
    """Inputs [N, ...] in batches of exactly `size` rows; the last is filled up with rows from the start."""
    count = math.ceil(len(inputs) / size)
    return np.split(np.resize(inputs, (count * size, *inputs.shape[1:])), count)


def warm_up(stream: Stream) -> float:
    """Runs a stream for at least 100 ms and gives the seconds that one call takes then."""
    return float(np.median(stream.run(WARM_UP_S)[1:]))


def block_s(call_s: float) -> float:
    """How long a block of such calls takes, in seconds."""
    return max(BLOCK_S, FEWEST_CALLS * call_s)


def timed_blocks(
    streams: Sequence[Stream], rounds: int, rng: np.random.Generator, meter: Meter | None = None
) -> Iterator[tuple[int, Block]]:
    """Runs rounds; in each, every stream runs one block, in random order. Gives, as each block ends, the index of
    its stream and the block."""
    for _ in range(rounds):
        for index in rng.permutation(len(streams)):
            yield int(index), _timed(streams[index], meter)


def _timed(stream: Stream, meter: Meter | None) -> Block:
    with without_garbage_collection():
        joules, cpu_s = None if meter is None else meter.joules(), time.process_time()
        latencies_s = stream.run(BLOCK_S)
        cpu_s = time.process_time() - cpu_s
        spent = None if meter is None or joules is None else meter.since(joules)
    return Block(kept(latencies_s), len(latencies_s), cpu_s, spent)


def turns(streams: Sequence[Stream], rounds: int, rng: np.random.Generator) -> Iterator[list[Seconds]]:
    """Runs the streams in turn, one call of each, in an order that is drawn anew each time: whoever comes after a big
    one finds least in the cache. Blocks are of at least 200 ms; gives, as each ends, the latencies in seconds that
    count of each stream."""
    for _ in range(rounds):
        latencies_ns: list[list[int]] = [[] for _ in streams]
        with without_garbage_collection():
            deadline = time.perf_counter_ns() + BLOCK_S * 1e9
            while time.perf_counter_ns() < deadline or len(latencies_ns[0]) < FEWEST_CALLS:
                for index in rng.permutation(len(streams)):
                    latencies_ns[index].append(streams[index].call())
        yield [kept(np.array(own_ns) / 1e9) for own_ns in latencies_ns]


def kept(latencies_s: Seconds) -> Seconds:
    """Those of a block that count: without its first tenth."""
    return latencies_s[math.ceil(DISCARDED * len(latencies_s)) :]
