"""The stages of a run that cost time: each leaves its result in the run's folder and is not done twice.

It knows stacks, teachers and files, not the order of the story (pipeline.py).
Legend: M members, N examples, K classes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from service.machine import usable_cpus
from trainer.checkpoint import load_tensors, save_tensors
from trainer.data.split import Part, Split
from trainer.display import Display
from trainer.fit import Choice, Examples, Loss, Progress, View, fit, plain
from trainer.limits import cpu_threads, enough_memory
from trainer.modules import Module, make_module
from trainer.networks import Normalise, Stack, normalise_for
from trainer.recipe import Training

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

            stack = _stack(workshop, settings, group, normalise)
            threads = 1 if _is_small(workshop, settings) else usable_cpus()
            training = partial(fit, stack, train, workshop.validation, loss, settings, group, report=report, view=view)
            with cpu_threads(threads), enough_memory(f"training with batches of {settings.batch_size}"):
                choice = _once(workshop.folder, f"{title}-{index}", stack, training)
            trained.networks.extend(stack.member(member) for member in range(stack.members))
            trained.errors.extend(choice.errors)
            trained.nll.extend(choice.nll)
            advance((index + 1) * settings.epochs, _remark(trained.errors))
    return trained


def _stack(workshop: Workshop, settings: Training, seeds: Sequence[int], normalise: Normalise) -> Stack | Module:
    """Networks with their initial weights."""
    sizes = _sizes(workshop, settings)
    with enough_memory(f"networks of {'-'.join(map(str, sizes))}"):
        if settings.network == "mlp":
            return Stack(sizes, seeds, normalise, settings.dropout).to(workshop.device)
        (seed,) = seeds
        shape, classes = workshop.split.shape, len(workshop.split.classes)
        return make_module(settings.network, shape, classes, settings.hidden, seed, normalise).to(workshop.device)


def _sizes(workshop: Workshop, settings: Training) -> list[int]:
    return [math.prod(workshop.split.shape), *settings.hidden, len(workshop.split.classes)]


def _is_small(workshop: Workshop, settings: Training) -> bool:
    if settings.network != "mlp":
        return False
    weights = sum(wide * high for wide, high in itertools.pairwise(_sizes(workshop, settings)))
    return weights <= SMALL


def _groups(workshop: Workshop, settings: Training, seeds: Sequence[int]) -> list[Sequence[int]]:
    """Seeds whose networks are trained together."""
    pays = workshop.device.type == "cuda" or _is_small(workshop, settings)
    together = len(seeds) if settings.network == "mlp" and pays else 1
    return [seeds[start : start + together] for start in range(0, len(seeds), together)]


def _remark(errors: list[int]) -> str:
    few = len(errors) <= 3
    return f"validation errors {', '.join(map(str, errors)) if few else f'{min(errors)} to {max(errors)}'}"


def _once(folder: Path, label: str, stack: Stack | Module, train_it: Callable[[Path], Choice]) -> Choice:
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
