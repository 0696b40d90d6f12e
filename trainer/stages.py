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
from torch import Tensor, nn

from service.machine import usable_cpus
from trainer.checkpoint import load_tensors, save_tensors
from trainer.cluster import Cluster, Here
from trainer.data.split import Part, Split
from trainer.display import Display
from trainer.errors import TrainerError
from trainer.fit import Choice, Examples, Loss, Order, Progress, View, fit, plain, shuffled
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
    cluster: Cluster = Here()


class Task(NamedTuple):
    """Networks that train by themselves, and all that it takes beside the examples: it can go to another process.

    `labels` [M, K] is what validation takes each class of the data for, where that is not the class itself; `start` is
    the state that the networks begin with, where it is not drawn.
    """

    folder: Path
    label: str
    settings: Training
    seeds: Sequence[int]
    loss: Loss
    view: View
    normalise: Normalise
    shape: tuple[int, ...]
    classes: int
    device: torch.device
    order: Order = shuffled
    labels: Tensor | None = None
    start: dict[str, Tensor] | None = None

    @property
    def done(self) -> Path:
        """The file that holds the finished networks."""
        return self.folder / f"{self.label}.safetensors"

    @property
    def sizes(self) -> list[int]:
        """D, the hidden widths, K."""
        return [math.prod(self.shape), *self.settings.hidden, self.classes]


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
    return train_tasks(workshop, title, tasks_of(workshop, title, settings, seeds, loss, view), train)


def train_tasks(workshop: Workshop, title: str, tasks: Sequence[Task], train: Examples) -> Trained:
    """Trains tasks of equal settings here, or takes what the cluster made of them."""
    settings = tasks[0].settings
    trained = Trained([], [seed for task in tasks for seed in task.seeds], [], [])
    with workshop.display.stage(title, len(tasks) * settings.epochs) as advance:
        if not isinstance(workshop.cluster, Here):
            spread(workshop, tasks, train, lambda done: advance(done * settings.epochs, ""))
        for index, task in enumerate(tasks):

            def report(progress: Progress, before: int = index * settings.epochs) -> None:
                advance(before + progress.epoch, _remark(trained.errors + progress.best_errors))

            stack, choice = _train(train, workshop.validation, task, report)
            trained.networks.extend(stack.member(member) for member in range(stack.members))
            trained.errors.extend(choice.errors)
            trained.nll.extend(choice.nll)
            advance((index + 1) * settings.epochs, _remark(trained.errors))
    return trained


def tasks_of(
    workshop: Workshop, title: str, settings: Training, seeds: Sequence[int], loss: Loss, view: View = plain
) -> list[Task]:
    """What `train_networks` would train, group by group."""
    normalise = normalise_for(workshop.split.train.inputs, workshop.split.image)
    shape, classes = workshop.split.shape, len(workshop.split.classes)
    common = (loss, view, normalise, shape, classes, workshop.device)
    groups = _groups(workshop, settings, seeds)
    return [Task(workshop.folder, f"{title}-{n}", settings, group, *common) for n, group in enumerate(groups)]


def spread(workshop: Workshop, tasks: Sequence[Task], train: Examples, done: Callable[[int], None]) -> None:
    """Trains on the workshop's cluster the tasks whose networks are not there yet, and leaves them in their folder."""
    left = [task for task in tasks if not task.done.exists()]
    workshop.cluster.run(train_task, (train, workshop.validation), left, done)


def train_task(shared: tuple[Examples, Examples], task: Task) -> None:
    """In whatever process: trains a task, from its checkpoint where there is one, and leaves its networks on disk."""
    _train(*shared, task, lambda _progress: None)


def _train(
    train: Examples, validation: Examples, task: Task, report: Callable[[Progress], None]
) -> tuple[Stack | Module, Choice]:
    stack = _stack(task)
    threads = 1 if _is_small(task.settings, task.sizes) else usable_cpus()
    if task.labels is not None:
        validation = validation._replace(labels=task.labels.to(validation.labels.device)[:, validation.labels])
    training = partial(
        fit,
        stack,
        train,
        validation,
        task.loss,
        task.settings,
        task.seeds,
        report=report,
        view=task.view,
        order=task.order,
    )
    with cpu_threads(threads), enough_memory(f"training with batches of {task.settings.batch_size}"):
        return stack, _once(task, stack, training)


def _stack(task: Task) -> Stack | Module:
    """Networks with their initial weights."""
    with enough_memory(f"networks of {'-'.join(map(str, task.sizes))}"):
        made = _made(task)
        if task.start is not None:
            try:
                made.load_state_dict(task.start)
            except RuntimeError as error:
                why = " ".join(str(error).split())
                raise TrainerError(f"the weights that {task.label} start from do not fit: {why}") from error
        return made.to(task.device)


def _made(task: Task) -> Stack | Module:
    if task.settings.network == "mlp":
        return Stack(task.sizes, task.seeds, task.normalise, task.settings.dropout)
    (seed,) = task.seeds
    name, hidden = task.settings.network, task.settings.hidden
    return make_module(name, task.shape, task.classes, hidden, seed, task.normalise)


def _is_small(settings: Training, sizes: Sequence[int]) -> bool:
    weights = sum(wide * high for wide, high in itertools.pairwise(sizes))
    return settings.network == "mlp" and weights <= SMALL


def _groups(workshop: Workshop, settings: Training, seeds: Sequence[int]) -> list[Sequence[int]]:
    """Seeds whose networks are trained together."""
    sizes = [math.prod(workshop.split.shape), *settings.hidden, len(workshop.split.classes)]
    pays = workshop.device.type == "cuda" or _is_small(settings, sizes)
    together = len(seeds) if settings.network == "mlp" and pays else 1
    return [seeds[start : start + together] for start in range(0, len(seeds), together)]


def _remark(errors: list[int]) -> str:
    few = len(errors) <= 3
    return f"validation errors {', '.join(map(str, errors)) if few else f'{min(errors)} to {max(errors)}'}"


def _once(task: Task, stack: Stack | Module, train_it: Callable[[Path], Choice]) -> Choice:
    """Trains a stack with a checkpoint, or takes the weights that an earlier try finished with."""
    checkpoint = task.folder / f"{task.label}.checkpoint.safetensors"
    if task.done.exists():
        tensors, facts = load_tensors(task.done)
        stack.load_state_dict(tensors)
        return Choice(**facts)
    choice = train_it(checkpoint)
    save_tensors(task.done, stack.state_dict(), choice._asdict())
    checkpoint.unlink(missing_ok=True)
    return choice
