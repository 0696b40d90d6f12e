"""Times models in this process: one at a time, in short blocks, in random order. It knows no statistics.

Why blocks and not turns: a big model evicts a small one's weights from the cache, and threads that spin while they
wait slow the others 2 to 3 times. So none spins after its run (service/model.py), a model runs alone for at least
200 ms, and the first tenth of that, in which it finds its cache again, is thrown away. Random order keeps a drift of
the machine from favouring one of them.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

from service.comparison.statistics import Seconds
from service.model import Model

BLOCK_S = 0.2
DISCARDED = 0.1
WARM_UP_S = 0.1
FEWEST_CALLS = 3
"""A block has at least so many calls, however long they take: one to discard and two to keep."""


class Stream:
    """One model that answers the same batches in rotation, [batch, ...] each, one call after the other."""

    def __init__(self, model: Model, batches: Sequence[NDArray[np.float32]]) -> None:
        self._model = model
        self._batches = cycle(batches)

    def run(self, seconds: float) -> Seconds:
        """Latencies in seconds of consecutive calls, for at least `seconds` and at least FEWEST_CALLS calls."""
        clock, latencies_ns = time.perf_counter_ns, list[int]()
        end = clock()
        deadline = end + seconds * 1e9
        while end < deadline or len(latencies_ns) < FEWEST_CALLS:
            batch = next(self._batches)
            start = clock()
            self._model.run(batch)
            end = clock()
            latencies_ns.append(end - start)
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


def timed_blocks(streams: Sequence[Stream], blocks: int, rng: np.random.Generator) -> Iterator[tuple[int, Seconds]]:
    """Runs `blocks` rounds; in each, every stream runs one block, in random order.

    Gives, as each block ends, the index of its stream and the latencies in seconds that are kept of it.
    """
    for _ in range(blocks):
        for index in rng.permutation(len(streams)):
            with _without_garbage_collection():
                latencies_s = streams[index].run(BLOCK_S)
            yield int(index), latencies_s[math.ceil(DISCARDED * len(latencies_s)) :]


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """A collection in mid-block would be counted against whichever model is running. It goes on between blocks."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
