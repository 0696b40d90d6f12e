"""The training loop, the only one: members, students and baselines differ in their stack, their data and their loss.

It knows steps, epochs, the choice of the best epoch on validation, and how to go on from a checkpoint. It does not know
where examples come from or what the networks are for.

Legend: M members, N examples, B batch, K classes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from trainer.checkpoint import load_tensors, save_tensors
from trainer.errors import TrainerError
from trainer.losses import cross_entropy
from trainer.modules import Module
from trainer.networks import Stack
from trainer.recipe import Training

SAVE_EVERY_S = 2.0
"""Checkpoints are at least this far apart: short epochs must not spend their time writing."""


class Examples(NamedTuple):
    """Inputs [N, ...] float32 in raw units, labels int64 [N], the teacher's log-probabilities [N, K] or None.

    Those of validation may have labels [M, N]: the same example can be another class to another member.
    """

    inputs: Tensor
    labels: Tensor
    log_teacher: Tensor | None = None


class Mixture(NamedTuple):
    """Of examples that are mixed in pairs: the other's label [M, B], and the share of the first, 0.5 to 1, [M, B]."""

    labels: Tensor
    share: Tensor


class Batch(NamedTuple):
    """The same for M members: inputs [M, B, ...], labels [M, B], log-probabilities [M, B, K]."""

    inputs: Tensor
    labels: Tensor
    log_teacher: Tensor | None
    mixture: Mixture | None = None


Loss = Callable[[Tensor, Batch], Tensor]
"""Logits [M, B, K] and the batch -> one loss per member, [M]."""

View = Callable[[Examples, Tensor, int, Sequence[torch.Generator]], Batch]
"""Examples, indices [M, B] into them, the epoch (from 0) and each member's generator -> what the members see."""


Order = Callable[[Examples, Sequence[torch.Generator], int], Iterator[Tensor]]
"""Examples, each member's generator and the size of a batch -> the batches of an epoch, indices [M, B] each."""


def plain(train: Examples, indices_MB: Tensor, _epoch: int, _generators: Sequence[torch.Generator]) -> Batch:
    """The examples as they are."""
    log_teacher = None if train.log_teacher is None else train.log_teacher[indices_MB]
    return Batch(train.inputs[indices_MB], train.labels[indices_MB], log_teacher)


def shuffled(train: Examples, generators: Sequence[torch.Generator], batch_size: int) -> Iterator[Tensor]:
    """An epoch of every example, each member in an order of its own; the last batch may be smaller."""
    device, total = train.labels.device, len(train.labels)
    orders_MN = torch.stack([torch.randperm(total, generator=g, device=device) for g in generators])
    yield from orders_MN.split(batch_size, dim=1)


class Progress(NamedTuple):
    """Told after each epoch: how many are done, of how many, and the best validation errors so far, one per member."""

    epoch: int
    epochs: int
    best_errors: list[int]


class Choice(NamedTuple):
    """What validation chose for each member: the epoch (from 1), its errors and its NLL."""

    epochs: list[int]
    errors: list[int]
    nll: list[float]


def fit(
    stack: Stack | Module,
    train: Examples,
    validation: Examples,
    loss: Loss,
    settings: Training,
    seeds: Sequence[int],
    checkpoint: Path,
    report: Callable[[Progress], None],
    view: View = plain,
    order: Order = shuffled,
) -> Choice:
    """Trains a stack in place; afterwards each member has the weights of its best epoch on validation.

    Every member draws its shuffles, its dropout and its view from a generator seeded by `seeds`, so that the result
    is the same whether members are trained together or apart. Where `checkpoint` exists, it goes on from there and
    ends with the same weights. Raises TrainerError where the loss is no longer finite.
    """
    state = _State(stack, settings, seeds, view, order)
    if checkpoint.exists():
        state.load(checkpoint)
    saved = time.monotonic()
    for epoch in range(state.epoch, settings.epochs):
        state.learn(train, loss)
        state.validate(validation)
        state.epoch = epoch + 1
        if state.epoch == settings.epochs or time.monotonic() - saved > SAVE_EVERY_S:
            state.save(checkpoint)
            saved = time.monotonic()
        report(Progress(state.epoch, settings.epochs, state.best_errors.tolist()))
    return state.finish()


class _State:
    """Everything that changes while training, all of it in the checkpoint."""

    def __init__(
        self, stack: Stack | Module, settings: Training, seeds: Sequence[int], view: View, order: Order
    ) -> None:
        device = next(stack.parameters()).device
        self.stack = stack
        self.settings = settings
        self.view = view
        self.order = order
        self.epoch = 0
        self.optimiser = torch.optim.Adam(
            stack.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        # The even numbers are the streams of the initial weights (networks.py), the odd ones those of training.
        self.generators = [torch.Generator(device).manual_seed(2 * seed + 1) for seed in seeds]
        self.best = [tensor.detach().clone() for tensor in stack.learnt()]
        self.best_epoch = torch.zeros(stack.members, dtype=torch.int64)
        self.best_errors = torch.full((stack.members,), 2**62, dtype=torch.int64)
        self.best_nll = torch.full((stack.members,), math.inf, dtype=torch.float64)

    def learn(self, train: Examples, loss: Loss) -> None:
        """One epoch over the training examples."""
        batches = list(self.order(train, self.generators, self.settings.batch_size))
        for step, indices_MB in enumerate(batches):
            done = (self.epoch + step / len(batches)) / self.settings.epochs
            for group in self.optimiser.param_groups:
                group["lr"] = self.settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))
            batch = self.view(train, indices_MB, self.epoch, self.generators)
            self.optimiser.zero_grad(set_to_none=True)
            with torch.autocast(
                batch.inputs.device.type, torch.bfloat16, enabled=self.settings.precision == "bfloat16"
            ):
                logits_MBK = self.stack(batch.inputs, self.generators)
            losses_M = loss(logits_MBK.float(), batch)
            losses_M.sum().backward()
            self.optimiser.step()
        self._check_finite(losses_M.detach())

    def validate(self, validation: Examples) -> None:
        """Keeps each member's weights where this epoch has fewer validation errors, or as many at a lower NLL; the last
        epoch's where those are asked for."""
        errors_M, nll_M = score(self.stack, validation)
        self._check_finite(nll_M)
        better_M = (errors_M < self.best_errors) | ((errors_M == self.best_errors) & (nll_M < self.best_nll))
        better_M |= torch.tensor(self.settings.keep == "last")
        self.best_errors = torch.where(better_M, errors_M, self.best_errors)
        self.best_nll = torch.where(better_M, nll_M, self.best_nll)
        self.best_epoch = torch.where(better_M, self.epoch + 1, self.best_epoch)
        for kept, tensor in zip(self.best, self.stack.learnt(), strict=True):
            for member in better_M.nonzero().flatten().tolist() if len(better_M) > 1 else ():
                kept[member] = tensor[member].detach()
            if len(better_M) == 1 and better_M:
                kept.copy_(tensor.detach())

    def _check_finite(self, losses_M: Tensor) -> None:
        if not losses_M.isfinite().all():
            raise TrainerError(
                f"training diverged in epoch {self.epoch + 1}: the loss is {losses_M.tolist()}; "
                f"try a learning_rate below {self.settings.learning_rate}"
            )

    def finish(self) -> Choice:
        """Puts the best weights into the stack."""
        with torch.no_grad():
            for tensor, kept in zip(self.stack.learnt(), self.best, strict=True):
                tensor.copy_(kept)
        return Choice(self.best_epoch.tolist(), self.best_errors.tolist(), self.best_nll.tolist())

    def save(self, path: Path) -> None:
        """Writes the checkpoint of a finished epoch."""
        tensors: dict[str, Tensor] = {f"learnt.{i}": tensor for i, tensor in enumerate(self.stack.learnt())}
        tensors |= {f"best.{index}": tensor for index, tensor in enumerate(self.best)}
        tensors |= {f"generator.{index}": g.get_state() for index, g in enumerate(self.generators)}
        tensors |= {"best_epoch": self.best_epoch, "best_errors": self.best_errors, "best_nll": self.best_nll}
        for index, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{key}": value for key, value in moments.items()}
        save_tensors(path, tensors, {"epoch": self.epoch})

    @torch.no_grad()
    def load(self, path: Path) -> None:
        """Goes on from a checkpoint of the same stack and settings."""
        tensors, facts = load_tensors(path)
        self.epoch = facts["epoch"]
        for index, (tensor, kept) in enumerate(zip(self.stack.learnt(), self.best, strict=True)):
            tensor.copy_(tensors[f"learnt.{index}"])
            kept.copy_(tensors[f"best.{index}"])
        for index, generator in enumerate(self.generators):
            generator.set_state(tensors[f"generator.{index}"])
        self.best_epoch, self.best_errors = tensors["best_epoch"], tensors["best_errors"]
        self.best_nll = tensors["best_nll"]
        moments = {}
        for index, parameter in enumerate(self.stack.parameters()):
            step, *averages = (tensors[f"optimiser.{index}.{key}"] for key in ("step", "exp_avg", "exp_avg_sq"))
            # In the parameter's own layout, which a file does not keep: Adam's fused step is over memory.
            first, second = (torch.empty_like(parameter).copy_(average) for average in averages)
            moments[index] = {"step": step, "exp_avg": first, "exp_avg_sq": second}
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": moments})


@torch.no_grad()
def score(stack: Stack | Module, examples: Examples, batch_size: int = 2048) -> tuple[Tensor, Tensor]:
    """Errors, int64 [M], and NLL in nats, float64 [M], of each member on the same inputs, on the CPU."""
    errors_M = torch.zeros(stack.members, dtype=torch.int64)
    nll_M = torch.zeros(stack.members, dtype=torch.float64)
    labels_N = examples.labels
    for inputs, labels in zip(examples.inputs.split(batch_size), labels_N.split(batch_size, dim=-1), strict=True):
        logits_MBK = stack(inputs.expand(stack.members, *inputs.shape))
        labels_MB = labels.expand(stack.members, -1)
        errors_M += (logits_MBK.argmax(dim=-1) != labels_MB).sum(dim=-1).cpu()
        nll_M += cross_entropy(logits_MBK, labels_MB).double().cpu() * labels.shape[-1]
    return errors_M, nll_M / labels_N.shape[-1]
