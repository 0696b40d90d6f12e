"""Answers of a generalist and its specialists, to be combined, and the module that combines them.

The module is the one that is served, but its networks read their answers off the input: what it costs is votes and
steps alone. It knows neither how networks are trained nor how a combination is measured.
Legend: N images, B batch, K classes, T columns of all models' answers side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainer.combined import Combined, Voting
from trainer.groups import Group

WIDTH = 3.0


class Case(NamedTuple):
    """Log-probabilities of all models for some images, float32 [N, T]: the generalist's, and each specialist's, whose
    first is of its dustbin."""

    title: str
    groups: Sequence[Group]
    answers_NT: Tensor


@torch.no_grad()
def trained(groups: Sequence[Group], generalist: nn.Module, specialists: Sequence[nn.Module], inputs: Tensor) -> Case:
    """What networks say of inputs [N, ...]."""
    log_p = [network(inputs).log_softmax(dim=-1) for network in (generalist, *specialists)]
    return Case("of trained networks", groups, torch.cat(log_p, dim=-1))


def drawn(groups: Sequence[Group], classes: int, images: int, apart: float, seed: int) -> Case:
    """All see the same logits, whose deviation is WIDTH or `apart`, and each adds noise of deviation `apart`."""
    random = torch.Generator().manual_seed(seed)

    def noise() -> Tensor:
        return torch.randn(images, classes, generator=random, dtype=torch.float64)

    truth_NK = max(WIDTH, apart) * noise()
    parts = [(truth_NK + apart * noise()).log_softmax(dim=-1)]
    for group in groups:
        log_p_NK = (truth_NK + apart * noise()).log_softmax(dim=-1)
        rest = [label for label in range(classes) if label not in set(group)]
        parts += [log_p_NK[:, rest].logsumexp(dim=-1, keepdim=True), log_p_NK[:, list(group)]]
    return Case(f"drawn, logits apart by {apart:g}", groups, torch.cat(parts, dim=-1).float())


class Columns(nn.Module):
    """A network that has answered already: its columns of the input."""

    def __init__(self, first: int, end: int) -> None:
        super().__init__()
        self.first, self.end = first, end

    def forward(self, input_BT: Tensor) -> Tensor:
        """[B, T] -> [B, its classes]."""
        return input_BT[:, self.first : self.end]


def combination_of(case: Case, classes: int, top: int) -> Combined:
    """The served module over answers [B, T]; its steps are still to be chosen."""
    ends = accumulate([classes, *(1 + len(group) for group in case.groups)])
    generalist, *specialists = [Columns(first, end) for first, end in pairwise([0, *ends])]
    return Combined([generalist], specialists, Voting(case.groups, classes, top), "plain", 1).eval()
