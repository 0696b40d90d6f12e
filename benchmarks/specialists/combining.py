"""What combining costs an image: our steps beside gradient descent until it is as close to the optimum as ours.

Both sides are exported and run by onnxruntime, and run by PyTorch, on one thread, votes included. Of gradient descent
one step is timed and so are some steps more, which gives the time of as many as images need; nothing is added for
finding out that they are there. It knows answers, not the networks that gave them.
Legend: N images, K classes.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.int8 import Graph, timed
from benchmarks.specialists.answers import Case, combination_of
from benchmarks.specialists.descent import Descending, Setting, best_setting, steps_needed
from benchmarks.specialists.training import ratio
from service.comparison import speed
from service.comparison.subject import Answering
from service.model import Prediction
from trainer.combination import TOLERANCE, choose_steps, combine, step
from trainer.combined import Combined
from trainer.export import to_onnx
from trainer.limits import cpu_threads

BATCHES = (1, 64)
REFERENCE = 60
SEED = 0


class Solved(NamedTuple):
    """A case with our combination, whose largest error is `error`, and gradient descent at its best: its setting, and
    the steps [N] until an image is as close, `bound` + 1 for never.

    `residual` is by how much a further step of the fixed point moves the reference: its gradient over the models.
    """

    case: Case
    combined: Combined
    active: int
    error: float
    residual: float
    setting: Setting
    needed_N: Tensor
    bound: int

    @property
    def steps(self) -> float:
        """Gradient descent's on the mean; images that never get there count with the bound."""
        return float(self.needed_N.clamp(max=self.bound).double().mean())


@torch.no_grad()
def solve(case: Case, classes: int, top: int, bound: int) -> Solved:
    """Both sides on the same images, each with the fewest steps that will do."""
    combined = combination_of(case, classes, top)
    votes = combined.votes(case.answers_NT)
    combined.method, combined.steps, error = choose_steps([votes])
    exact_NK = combine(votes, "newton", REFERENCE)
    residual = float((step(votes, exact_NK) - exact_NK).abs().max())
    active = int((votes.dustbin_BA > 0).sum(dim=-1).max())
    setting = best_setting(votes, exact_NK, bound)
    needed_N = steps_needed(votes, exact_NK, setting, bound)
    return Solved(case, combined, active, error, residual, setting, needed_N, bound)


def accuracy_table(cases: Sequence[Solved]) -> Iterator[str]:
    """How far either side gets, and in how many steps."""
    yield (
        "| answers | active, at most | ours | off by at most | reference moves by | gradient descent: rate, momentum "
        f"| within {TOLERANCE:g} | its steps: median, mean, most |"
    )
    yield "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |"
    for solved in cases:
        needed_N, bound = solved.needed_N, solved.bound
        there = f"{float((needed_N <= bound).double().mean()):.1%} of {len(needed_N)}"
        median, most = (
            f"over {bound:,}" if n > bound else f"{n:,}" for n in (int(needed_N.median()), int(needed_N.max()))
        )
        rate, momentum = solved.setting
        yield (
            f"| {solved.case.title} | {solved.active} | {solved.combined.steps} {solved.combined.method} "
            f"| {solved.error:.1g} | {solved.residual:.1g} | {rate:g}, {momentum:g} "
            f"| {there} | {median}, {solved.steps:,.0f}, {most} |"
        )


class Eager:
    """A module as PyTorch runs it, asked as a graph is."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    @torch.inference_mode()
    def run(self, inputs: NDArray[np.float32]) -> Prediction:
        """Both outputs for answers [B, T]."""
        return Prediction(*(output.numpy() for output in self._module(torch.from_numpy(inputs))))


def time_table(cases: Sequence[Solved], unrolled: int, blocks: int) -> Iterator[str]:
    """Time of an image on either side; a ratio is the median over blocks, with the least and the greatest."""
    yield "| answers | in | batch | ours, µs an image | gradient descent, µs | µs of a step | its time over ours |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: |"
    rng = np.random.default_rng(SEED)
    with cpu_threads(1):
        for solved in cases:
            for name, runners in _runners(solved, unrolled):
                for rows in BATCHES:
                    batches = speed.batches(solved.case.answers_NT.numpy(), rows)
                    blocks_us = [[b.mean() / rows * 1e6 for b in each] for each in timed(runners, batches, blocks, rng)]
                    yield f"| {solved.case.title} | {name} | {rows} | {_times(solved.steps, unrolled, *blocks_us)} |"


def _times(steps: float, unrolled: int, ours_us: list[float], one_us: list[float], more_us: list[float]) -> str:
    """The cells, from blocks of ours, of one step of gradient descent and of `unrolled` more."""
    step_us = [(more - one) / unrolled for one, more in zip(one_us, more_us, strict=True)]
    theirs_us = [one + (steps - 1) * each for one, each in zip(one_us, step_us, strict=True)]
    cells = [f"{statistics.median(each):.3g}" for each in (ours_us, theirs_us, step_us)]
    return " | ".join([*cells, ratio(theirs_us, ours_us)])


def _runners(solved: Solved, unrolled: int) -> Iterator[tuple[str, Sequence[Answering]]]:
    """Ours, one step of gradient descent and `unrolled` more, in one runtime and in the other."""
    modules = [solved.combined, *(Descending(solved.combined, solved.setting, n).eval() for n in (1, 1 + unrolled))]
    yield "onnxruntime", [Graph(to_onnx(module, solved.case.answers_NT.shape[1:])) for module in modules]
    yield "PyTorch", [Eager(module) for module in modules]
