"""Means of predictive distributions, and what is served: an ordinary network, or many and their mean, as one module.

It knows tensors and modules, not how members were trained or how a module becomes ONNX.
Legend: M members, B batch, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from service.measures import FLOOR

Mean = Literal["arithmetic", "geometric"]


def log_mean(log_p_MBK: Tensor, mean: Mean) -> Tensor:
    """The logarithm [B, K] of the mean of M distributions given as log-probabilities [M, B, K] (section 2).

    Arithmetic: logsumexp over members - log M. Geometric: the mean of the log-probabilities, renormalised.
    """
    if mean == "arithmetic":
        log_p = log_p_MBK.logsumexp(dim=0) - math.log(log_p_MBK.shape[0])
    else:
        log_p = log_p_MBK.mean(dim=0).log_softmax(dim=-1)
    return log_p.clamp(min=FLOOR)


class Single(nn.Module):
    """One network as it is served: raw [B, ...] -> probabilities and logits, both [B, K]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, input: Tensor) -> tuple[Tensor, Tensor]:  # noqa: A002 - the graph's input has this name
        """Probabilities at temperature 1 and the network's own logits."""
        logits = self.network(input)
        return logits.softmax(dim=-1), logits


class Ensemble(nn.Module):
    """Members and their mean as they are served; its logits are log p of the mean, at temperature 1."""

    def __init__(self, members: Sequence[nn.Module], mean: Mean) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.mean: Mean = mean

    def forward(self, input: Tensor) -> tuple[Tensor, Tensor]:  # noqa: A002 - the graph's input has this name
        """Raw [B, ...] -> probabilities and log-probabilities, both [B, K]."""
        log_p_MBK = torch.stack([member(input).log_softmax(dim=-1) for member in self.members])
        log_p = log_mean(log_p_MBK, self.mean)
        return log_p.softmax(dim=-1), log_p


@torch.no_grad()
def predict(network: nn.Module, inputs: Tensor, batch_size: int = 2048) -> Tensor:
    """Logits [N, K] on the CPU for raw inputs [N, ...]; of a served module, the second of its two outputs."""
    answers = [network(batch) for batch in inputs.split(batch_size)]
    return torch.cat([answer[1] if isinstance(answer, tuple) else answer for answer in answers]).cpu()
