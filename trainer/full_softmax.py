"""Specialists that keep a full softmax over all classes (section 6.1): what they see, their loss, and how they vote.

Of a special example such a specialist learns the label, of any other one the generalist's soft target, so that it keeps
what the generalist knows of all other classes. When it votes, these are its dustbin.
It knows views, losses and networks, not how tasks are made (specialists.py).
Legend: M specialists of one task, K classes, B batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainer import losses
from trainer.fit import Batch, Examples, View
from trainer.groups import Group


@dataclass(frozen=True)
class Asking:
    """A View with the generalist's answers to what is seen. It is asked while training: members' views never repeat."""

    view: View
    generalist: nn.Module

    def __call__(self, train: Examples, indices_MB: Tensor, epoch: int, generators: Sequence[torch.Generator]) -> Batch:
        """A View."""
        batch = self.view(train, indices_MB, epoch, generators)
        network = self.generalist.to(batch.inputs.device).eval()
        with torch.no_grad():
            log_p = network(batch.inputs.flatten(0, 1)).float().log_softmax(dim=-1)
        return batch._replace(log_teacher=log_p.view(*indices_MB.shape, -1))


@dataclass(frozen=True)
class LabelsAndSoftTargets:
    """Cross-entropy with the labels of special classes [M, K], and with the generalist's answers for all others.

    Both are taken at the odds that the examples have: all classes that are not special lie lower by `offsets`, in the
    specialist's logits and in the soft targets alike, so that the logits themselves have the data's odds.
    """

    offsets: tuple[float, ...]
    special: Tensor

    def __call__(self, logits_MBK: Tensor, batch: Batch) -> Tensor:
        """[M], as the training loop wants it."""
        if batch.log_teacher is None:
            raise TypeError("a full softmax learns from soft targets; these examples have none")
        special_MK = self.special.to(logits_MBK.device)
        lower_MK = torch.tensor(self.offsets, device=logits_MBK.device)[:, None] * ~special_MK
        is_special_MB = special_MK.gather(1, batch.labels).float()
        log_q = (logits_MBK - lower_MK[:, None]).log_softmax(dim=-1)
        targets = (batch.log_teacher - lower_MK[:, None]).softmax(dim=-1)
        soft_MB = -(targets * log_q).sum(dim=-1)
        return losses.cross_entropy(log_q, batch.labels, is_special_MB) + ((1.0 - is_special_MB) * soft_MB).mean(dim=-1)


class Collapsed(nn.Module):
    """A network to logits of all classes as a specialist votes: raw [B, ...] -> [B, 1 + special classes], the dustbin
    first, with the mass of all classes that are not special."""

    special: Tensor
    rest: Tensor

    def __init__(self, network: nn.Module, group: Group, classes: int) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("special", torch.tensor(group))
        self.register_buffer("rest", torch.tensor([label for label in range(classes) if label not in set(group)]))

    def forward(self, raw: Tensor) -> Tensor:
        """Logits."""
        logits_BK = self.network(raw)
        return torch.cat([logits_BK[:, self.rest].logsumexp(dim=-1, keepdim=True), logits_BK[:, self.special]], dim=-1)
