"""The stages of a run that cost time: each leaves its result in the run's folder and is not done twice.

It knows stacks, teachers and files, not the order of the story (pipeline.py).
Legend: M members, N examples, K classes.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from service.machine import usable_cpus
from trainer.checkpoint import load_tensors, save_tensors
from trainer.data.split import Part, Split
from trainer.display import Display
from trainer.ensemble import Ensemble, predict
from trainer.errors import RunError
from trainer.fit import Choice, Examples, Loss, Progress, View, fit, plain
from trainer.networks import Stack, normalise_for
from trainer.recipe import Training
from trainer.targets import stored_targets
from trainer.views import NumberedViews

SMALL = 300_000
"""Weights per network up to which a CPU trains all of them at once, on one thread: several would mostly wait for each
other. Larger matrix products fill the CPU by themselves."""


class Workshop(NamedTuple):
    """Where the stages work: the run's folder, the data, the same on the device, and the display."""

    folder: Path
    split: Split
    train: Examples
    validation: Examples
    device: torch.device
    display: Display


class Trained(NamedTuple):
    """Ordinary networks [M], raw inputs -> logits, their seeds, and their errors and NLL on validation [M]."""

    networks: list[nn.Module]
    seeds: Sequence[int]
    errors: list[int]
    nll: list[float]

    @property
    def best(self) -> int:
        """The index of the network with the fewest validation errors; of equals, the one with the lowest NLL."""
        return min(range(len(self.networks)), key=lambda index: (self.errors[index], self.nll[index]))


def _weights_sha256(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()


def examples(part: Part, device: torch.device) -> Examples:
    """A part as tensors on a device, inputs as float32 in raw units."""
    inputs = torch.from_numpy(np.ascontiguousarray(part.inputs, dtype=np.float32))
    return Examples(inputs.to(device), torch.from_numpy(part.labels).to(device))


def train_networks(
    workshop: Workshop,
    title: str,
    settings: Training,
    seeds: Sequence[int],
    loss: Loss,
    train: Examples,
    view: View = plain,
) -> Trained:
    """Trains one network per seed, together where that pays; each ends with its best epoch on validation."""
    groups = _groups(workshop, settings, seeds)
    normalise = normalise_for(workshop.split.train.inputs, workshop.split.image)
    trained = Trained([], seeds, [], [])
    with workshop.display.stage(title, len(groups) * settings.epochs) as advance:
        for index, group in enumerate(groups):

            def report(progress: Progress, before: int = index * settings.epochs) -> None:
                advance(before + progress.epoch, _remark(trained.errors + progress.best_errors))

            sizes = _sizes(workshop, settings)
            with _enough_memory(f"networks of {'-'.join(map(str, sizes))}"):
                stack = Stack(sizes, group, normalise, settings.dropout).to(workshop.device)
            threads = 1 if _is_small(workshop, settings) else usable_cpus()
            training = partial(fit, stack, train, workshop.validation, loss, settings, group, report=report, view=view)
            with _threads(threads), _enough_memory(f"training with batches of {settings.batch_size}"):
                choice = _once(workshop.folder, f"{title}-{index}", stack, training)
            trained.networks.extend(stack.member(member) for member in range(stack.members))
            trained.errors.extend(choice.errors)
            trained.nll.extend(choice.nll)
            advance((index + 1) * settings.epochs, _remark(trained.errors))
    return trained


def _sizes(workshop: Workshop, settings: Training) -> list[int]:
    return [math.prod(workshop.split.shape), *settings.hidden, len(workshop.split.classes)]


def _is_small(workshop: Workshop, settings: Training) -> bool:
    weights = sum(wide * high for wide, high in itertools.pairwise(_sizes(workshop, settings)))
    return weights <= SMALL


@contextmanager
def _enough_memory(what: str) -> Iterator[None]:
    """Turns what PyTorch raises where memory is short into a RunError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "alloc" in str(error):
            raise RunError(f"not enough memory for {what}; choose smaller ones in the recipe") from error
        raise


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """PyTorch's CPU threads, within."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _groups(workshop: Workshop, settings: Training, seeds: Sequence[int]) -> list[Sequence[int]]:
    """Seeds whose networks are trained together."""
    together = len(seeds) if workshop.device.type == "cuda" or _is_small(workshop, settings) else 1
    return [seeds[start : start + together] for start in range(0, len(seeds), together)]


def _remark(errors: list[int]) -> str:
    few = len(errors) <= 3
    return f"validation errors {', '.join(map(str, errors)) if few else f'{min(errors)} to {max(errors)}'}"


def _once(folder: Path, label: str, stack: Stack, train_it: Callable[[Path], Choice]) -> Choice:
    """Trains a stack with a checkpoint, or takes the weights that an earlier try finished with."""
    done = folder / f"{label}.safetensors"
    checkpoint = folder / f"{label}.checkpoint.safetensors"
    if done.exists():
        tensors, facts = load_tensors(done)
        stack.load_state_dict(tensors)
        return Choice(**facts)
    choice = train_it(checkpoint)
    save_tensors(done, stack.state_dict(), choice._asdict())
    checkpoint.unlink(missing_ok=True)
    return choice


class Teacher(NamedTuple):
    """Who answers: its SHA-256, and raw inputs [B, ...] -> log-probabilities [B, K] on the CPU."""

    sha256: str
    answer: Callable[[Tensor], Tensor]


def teacher_of(workshop: Workshop, ensemble: Ensemble) -> Teacher:
    """An ensemble that was trained here."""

    def answer(inputs: Tensor) -> Tensor:
        return predict(ensemble.to(workshop.device), inputs)

    return Teacher(_weights_sha256(ensemble), answer)


def soft_targets(workshop: Workshop, teacher: Teacher, inputs: Tensor, views: NumberedViews | None) -> list[Tensor]:
    """The teacher's log-probabilities [N, K] for inputs [N, ...], one tensor for each view of them, computed once and
    kept in the run's folder."""
    facts = {"teacher": teacher.sha256, "inputs": hashlib.sha256(inputs.cpu().numpy().data).hexdigest()}
    count = 1 if views is None else views.number
    targets = []
    with workshop.display.stage("soft targets", count) as advance:
        for number in range(count):
            targets.append(_targets_of_view(workshop, teacher, inputs, views, number, facts).to(workshop.device))
            advance(number + 1, "")
    return targets


def _targets_of_view(
    workshop: Workshop,
    teacher: Teacher,
    inputs: Tensor,
    views: NumberedViews | None,
    number: int,
    facts: dict[str, Any],
) -> Tensor:
    folder = workshop.folder / "soft-targets" / f"view-{number:04d}"
    draws = None if views is None else views.draw(number, len(inputs)).to(inputs.device)

    def answer(rows: range) -> Tensor:
        if views is None or draws is None:
            return teacher.answer(inputs[rows.start : rows.stop])
        return teacher.answer(views.see(inputs, torch.arange(rows.start, rows.stop, device=inputs.device), draws))

    views_as_made = None if views is None else list(views[1:])  # more views do not change the first ones
    return stored_targets(folder, {**facts, "views": views_as_made, "view": number}, len(inputs), answer)
