"""Runs models on the same data: warm-up, answers, then timed blocks. It knows no HTTP, no repository, no report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from service.comparison import speed
from service.comparison.data import Data
from service.comparison.quality import LogP, log_probabilities
from service.comparison.statistics import Seconds
from service.errors import InputError
from service.model import Model

LONGEST_S = 60.0


@dataclass(frozen=True)
class Plan:
    """How to measure: rows in a batch, blocks for each model and batch size, the seed; rows that one run may hold.

    `check` is called between any two blocks, and may raise.
    """

    batch: int
    blocks: int
    seed: int
    max_batch: int
    check: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Measured:
    """What one model did: log p [N, K] for the examples, and for each batch size the kept latencies of its blocks."""

    model: Model
    log_p_NK: LogP
    blocks: Mapping[int, list[Seconds]]


def measure(models: Sequence[Model], data: Data, plan: Plan) -> list[Measured]:
    """Runs models that take the same inputs and know the same classes, never two at the same time.

    A batch size of 1 is measured once. Raises InputError where it would take more than a minute, and where an answer
    is not finite.
    """
    sizes = sorted({1, plan.batch})
    _check_time([speed.BLOCK_S] * len(models) * len(sizes), plan.blocks)
    batches = {size: speed.batches(data.inputs, size) for size in sizes}
    streams = {size: [speed.Stream(model, batches[size]) for model in models] for size in sizes}
    calls_s = {size: [speed.warm_up(stream) for stream in streams[size]] for size in sizes}
    answers_s = sum(calls_s[plan.batch]) * len(batches[plan.batch])
    _check_time([speed.block_s(call_s) for size in sizes for call_s in calls_s[size]], plan.blocks, answers_s)
    log_ps = [log_probabilities(model, data.inputs, plan.max_batch) for model in models]
    order = np.random.default_rng(plan.seed)
    blocks = {size: _timed(streams[size], plan, order) for size in sizes}
    return [
        Measured(model, log_ps[index], {size: blocks[size][index] for size in sizes})
        for index, model in enumerate(models)
    ]


def _timed(streams: Sequence[speed.Stream], plan: Plan, order: np.random.Generator) -> list[list[Seconds]]:
    """The kept latencies of each stream's blocks."""
    kept: list[list[Seconds]] = [[] for _ in streams]
    for index, latencies_s in speed.timed_blocks(streams, plan.blocks, order):
        plan.check()
        kept[index].append(latencies_s)
    return kept


def _check_time(blocks_s: Sequence[float], blocks: int, answers_s: float = 0.0) -> None:
    """`blocks_s` has the seconds of one block of each model and batch size."""
    seconds = answers_s + blocks * sum(blocks_s)
    if seconds > LONGEST_S:
        raise InputError(
            f"this comparison would take {seconds:.0f} s, expected at most {LONGEST_S:.0f} s: {blocks} blocks of "
            f"{min(blocks_s):.1f} to {max(blocks_s):.1f} s for each of {len(blocks_s)} pairs of model and batch size, "
            f"and {answers_s:.0f} s for the answers; ask for fewer blocks, models or examples, or a smaller batch"
        )
