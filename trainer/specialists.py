"""Specialists: networks that start as the generalist and learn to tell the classes of one group apart (section 5.2).

A specialist has its special classes and one dustbin for all others, which is its column 0. Half of its examples are of
its special classes and half of the rest. That raises the odds of its special classes from pi / (1 - pi), pi being their
share of the training examples, to 1. So the loss is taken of logits whose dustbin is lower by log((1 - pi) / pi): the
logits themselves, with which validation chooses and which are served, have the data's own odds, exactly as if the
correction were added afterwards.

It knows tasks for the training loop and the networks that come of them, not how they are combined.
Legend: M specialists of one task, K classes, S groups, D features, N examples, B batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainer import losses
from trainer.data.split import Split
from trainer.errors import DataError
from trainer.fit import Batch, Examples, View
from trainer.full_softmax import Asking, Collapsed, LabelsAndSoftTargets
from trainer.groups import Group
from trainer.heads import DUSTBIN, cut, start_of
from trainer.recipe import Training
from trainer.stages import Task, Trained, Workshop, tasks_of, train_tasks


@dataclass(frozen=True)
class Relabelled:
    """A View in which each member has labels of its own: `labels` [M, K] is what each class of the data is to it."""

    view: View
    labels: Tensor

    def __call__(self, train: Examples, indices_MB: Tensor, epoch: int, generators: Sequence[torch.Generator]) -> Batch:
        """A View."""
        batch = self.view(train, indices_MB, epoch, generators)
        return batch._replace(labels=self.labels.to(batch.labels.device).gather(1, batch.labels))


@dataclass(frozen=True)
class HalfAndHalf:
    """An Order: every second example is of the special classes, [M, K], and the others are of the rest.

    An epoch has `half` of each, drawn without replacement until there are no more, and then anew.
    """

    special: Tensor
    half: int

    def __call__(self, train: Examples, generators: Sequence[torch.Generator], batch_size: int) -> Iterator[Tensor]:
        """Batches of indices [M, B]."""
        orders = []
        for special_K, generator in zip(self.special.to(train.labels.device), generators, strict=True):
            is_special_N = special_K[train.labels]
            halves = [
                _drawn(part_N.nonzero().flatten(), self.half, generator) for part_N in (is_special_N, ~is_special_N)
            ]
            orders.append(torch.stack(halves, dim=1).flatten())
        yield from torch.stack(orders).split(batch_size, dim=1)


def _drawn(indices: Tensor, count: int, generator: torch.Generator) -> Tensor:
    rounds = -(-count // len(indices))
    device = indices.device
    orders = [torch.randperm(len(indices), generator=generator, device=device) for _ in range(rounds)]
    return indices[torch.cat(orders)[:count]]


@dataclass(frozen=True)
class OwnOdds:
    """The loss of specialists: cross-entropy, after each one's `offsets` is taken from its dustbin's logit."""

    offsets: tuple[float, ...]

    def __call__(self, logits_MBK: Tensor, batch: Batch) -> Tensor:
        """[M], as the training loop wants it."""
        offsets_M = torch.tensor(self.offsets, device=logits_MBK.device)
        column_K = torch.zeros(logits_MBK.shape[-1], device=logits_MBK.device)
        column_K[DUSTBIN] = 1.0
        return losses.cross_entropy(logits_MBK - offsets_M[:, None, None] * column_K, batch.labels)


class Asked(NamedTuple):
    """How specialists are trained, how they see their inputs, what they start from and whose classes are theirs; with
    `full` they keep a softmax over all classes."""

    settings: Training
    view: View
    generalist: nn.Module
    groups: Sequence[Group]
    first_seed: int
    full: bool = False


def train_specialists(workshop: Workshop, asked: Asked) -> Trained:
    """One network [B, ...] -> [B, 1 + special classes] for each group, the dustbin first; together where that pays."""
    check_groups(workshop.split, asked.groups)
    trained = train_tasks(workshop, "specialists", specialist_tasks(workshop, asked), workshop.train)
    pairs = zip(trained.networks, asked.groups, strict=True)
    if asked.full:
        classes = len(workshop.split.classes)
        return trained._replace(networks=[Collapsed(network, group, classes) for network, group in pairs])
    return trained._replace(networks=[cut(network, 1 + len(group)) for network, group in pairs])


def specialist_tasks(workshop: Workshop, asked: Asked) -> list[Task]:
    """What `train_specialists` trains."""
    classes, groups, mlp = len(workshop.split.classes), asked.groups, asked.settings.network == "mlp"
    labels_SK = torch.stack([specialist_labels(group, classes) for group in groups])
    special_SK = labels_SK != DUSTBIN
    sizes, total = group_sizes(workshop.train.labels.cpu().numpy(), groups), len(workshop.train.labels)
    offsets = [dustbin_offset(size, total) for size in sizes]
    seeds = range(asked.first_seed, asked.first_seed + len(groups))
    tasks = []
    for task in tasks_of(workshop, "specialists", asked.settings, seeds, OwnOdds(()), asked.view):
        mine = slice(task.seeds[0] - asked.first_seed, task.seeds[-1] + 1 - asked.first_seed)
        columns = classes if asked.full else 1 + max(map(len, groups if mlp else groups[mine]))
        start = start_of(asked.generalist, asked.settings.network, groups[mine], classes, columns, full=asked.full)
        order = HalfAndHalf(special_SK[mine], max(sizes))
        task = task._replace(classes=columns, order=order, start=start)
        if asked.full:
            loss = LabelsAndSoftTargets(tuple(offsets[mine]), special_SK[mine])
            tasks.append(task._replace(loss=loss, view=Asking(asked.view, asked.generalist)))
        else:
            view = Relabelled(asked.view, labels_SK[mine])
            tasks.append(task._replace(loss=OwnOdds(tuple(offsets[mine])), view=view, labels=labels_SK[mine]))
    return tasks


def group_sizes(labels_N: NDArray[np.int64], groups: Sequence[Group]) -> list[int]:
    """How many of the examples are of each group's classes; an epoch of each specialist has twice the largest."""
    return [int(np.isin(labels_N, group).sum()) for group in groups]


def specialist_labels(group: Group, classes: int) -> Tensor:
    """What each class [K] is to a specialist: the dustbin, or 1, 2 ... in the group's order."""
    labels_K = torch.full((classes,), DUSTBIN)
    labels_K[list(group)] = torch.arange(1, 1 + len(group))
    return labels_K


def dustbin_offset(special: int, total: int) -> float:
    """log((1 - pi) / pi): how much lower a dustbin's logit is where half of the examples are special and not pi."""
    return math.log((total - special) / special)


def check_groups(split: Split, groups: Sequence[Group]) -> None:
    """Raises DataError where a group has classes that training or validation has no example of."""
    trained_on = set(split.train.labels.tolist())
    for number, group in enumerate(groups, start=1):
        if trained_on <= set(group):
            raise DataError(
                f"{split.name}: all training examples are of the classes of specialist {number} of {len(groups)}, and "
                "none is left for its dustbin"
            )
    for name, part in (("training", split.train), ("validation", split.validation)):
        there = set(part.labels.tolist())
        for number, group in enumerate(groups, start=1):
            missing = [split.classes[label] for label in group if label not in there]
            if missing:
                names = ", ".join(split.classes[label] for label in group)
                raise DataError(
                    f"{split.name}: the {name} part has no example of class {', '.join(missing)}, which specialist "
                    f"{number} of {len(groups)} would have to tell ({names})"
                )
