"""How long the matrix products of training take by themselves: what no training loop can be below.

It knows shapes, and no loop, loss or data. Every product is written into a tensor that exists already.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Sequence

import torch


def step_s(sizes: Sequence[int], batch_size: int, steps: int, members: int = 1) -> float:
    """The median of the matrix products of a step of so many members at once, and fused Adam."""
    layers = list(itertools.pairwise(sizes))
    hidden = [torch.rand(members, batch_size, width) for width in sizes]
    deltas = [torch.rand(members, batch_size, width) for width in sizes]
    weights = [torch.randn(members, *layer) * 0.01 for layer in layers]
    biases = [torch.zeros(members, width) for width in sizes[1:]]
    for parameter in [*weights, *biases]:
        parameter.grad = torch.full_like(parameter, 1e-3)
    optimiser = torch.optim.Adam([*weights, *biases], lr=1e-3, fused=True)

    def step() -> None:
        for index, weight in enumerate(weights):
            torch.bmm(hidden[index], weight, out=hidden[index + 1])
        for index, weight in reversed(list(enumerate(weights))):
            torch.bmm(hidden[index].mT, deltas[index + 1], out=weight.grad)
            if index:
                torch.bmm(deltas[index + 1], weight.mT, out=deltas[index])
        optimiser.step()

    return _median_s(step, steps)


def answers_s(sizes: Sequence[int], batch_size: int, steps: int) -> float:
    """The median of the matrix products of one teacher's answers to a batch."""
    layers = [torch.randn(layer) * 0.01 for layer in itertools.pairwise(sizes)]
    hidden = [torch.rand(batch_size, width) for width in sizes]

    def answer() -> None:
        for index, weight in enumerate(layers):
            torch.mm(hidden[index], weight, out=hidden[index + 1])

    return _median_s(answer, steps)


def _median_s(work: Callable[[], None], repetitions: int) -> float:
    """Of one call; two that nobody counts warm up."""
    times_s = []
    for _ in range(repetitions + 2):
        start = time.perf_counter()
        work()
        times_s.append(time.perf_counter() - start)
    return statistics.median(times_s[2:])
