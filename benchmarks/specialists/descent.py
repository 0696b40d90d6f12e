"""The paper's way to combine: gradient descent on the logits of q for each image, given every advantage.

The gradient is written out and not left to autograd, all images of a batch step together, rates and momenta are tried
and the best is taken, and each image stops at its first step within the tolerance of the optimum, which in use nobody
could tell. The objective is divided by the number of models of the row, so that one rate suits all rows; its gradient
is then q - step(q), step being that of the fixed point (trainer/combination.py).
Legend: N images, B batch, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, product
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainer.combination import TOLERANCE, Votes, step
from trainer.combined import Combined

TRIED_ON = 64
"""The images, the first ones, on which settings are tried."""


class Setting(NamedTuple):
    """Of gradient descent with Polyak's momentum; below a rate of 4 it descends surely without momentum."""

    rate: float
    momentum: float


SETTINGS = [Setting(*pair) for pair in product((1.0, 4.0, 16.0, 64.0, 256.0), (0.0, 0.9, 0.99))]


def descent(votes: Votes, setting: Setting) -> Iterator[Tensor]:
    """q [B, K] after one step, after two, and so on, from the proportions of what is given to the classes."""
    q_BK = votes.given_BK / votes.given_BK.sum(dim=-1, keepdim=True)
    logits_BK, velocity_BK = q_BK.log(), torch.zeros_like(q_BK)
    while True:
        velocity_BK = setting.momentum * velocity_BK + setting.rate * (q_BK - step(votes, q_BK))
        logits_BK = logits_BK - velocity_BK
        q_BK = logits_BK.softmax(dim=-1)
        yield q_BK


def steps_needed(votes: Votes, exact_NK: Tensor, setting: Setting, bound: int) -> Tensor:
    """For each image [N] the first step after which no probability is off by more than TOLERANCE, or bound + 1."""
    needed_N = torch.full((len(exact_NK),), bound + 1)
    for number, q_NK in enumerate(islice(descent(votes, setting), bound), start=1):
        near_N = (q_NK - exact_NK).abs().amax(dim=-1) <= TOLERANCE
        needed_N = torch.where(near_N, needed_N.clamp(max=number), needed_N)
        if int(needed_N.max()) <= bound:
            break
    return needed_N


def best_setting(votes: Votes, exact_NK: Tensor, bound: int, settings: Sequence[Setting] = SETTINGS) -> Setting:
    """The one that gets most of the first images there, and of equals the one with the fewest steps on the mean."""
    some = Votes(*(tensor[:TRIED_ON] for tensor in votes))

    def cost(setting: Setting) -> tuple[int, float]:
        needed_N = steps_needed(some, exact_NK[:TRIED_ON], setting, bound)
        return int((needed_N > bound).sum()), float(needed_N.double().mean())

    return min(settings, key=cost)


class Descending(nn.Module):
    """A combination with so many steps of gradient descent in place of ours, without control flow as ours is."""

    def __init__(self, combined: Combined, setting: Setting, steps: int) -> None:
        super().__init__()
        self.combined, self.setting, self.steps = combined, setting, steps

    def forward(self, input: Tensor) -> tuple[Tensor, Tensor]:  # noqa: A002 - the graph's input has this name
        """As `Combined`: probabilities and log-probabilities, both float32 [B, K]."""
        q_BK = next(islice(descent(self.combined.votes(input), self.setting), self.steps - 1, None))
        return q_BK.float(), q_BK.log().float()
