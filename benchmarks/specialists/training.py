"""What an epoch of specialists costs, beside one of the generalist and one of a mixture of experts of the same sizes.

It knows networks and seconds, not how they are combined afterwards. Ours train as the trainer trains them, one task
after another, files and all; the mixture goes through the same loop with its checkpoint. Nothing else of it is timed:
neither making it nor the file of its finished weights.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from torch import nn

from benchmarks.specialists.data import emnist_shaped
from benchmarks.specialists.mixture import Mixture
from benchmarks.specialists.scale import Scale
from service.machine import usable_cpus
from trainer.display import Display
from trainer.ensemble import predict
from trainer.fit import Examples, fit, plain
from trainer.groups import make_groups, moments
from trainer.limits import cpu_threads
from trainer.modules import Module
from trainer.networks import normalise_for
from trainer.objectives import hard
from trainer.recipe import Training
from trainer.specialists import Asked, HalfAndHalf, specialist_tasks, train_specialists
from trainer.stages import Task, Workshop, examples, tasks_of, train_tasks

CPU = torch.device("cpu")


class Trained(NamedTuple):
    """A generalist and its specialists, and with what they were made."""

    workshop: Workshop
    asked: Asked
    specialists: Sequence[nn.Module]


class Epoch(NamedTuple):
    """Seconds of one epoch: the generalist's, each task's of the specialists, and the mixture's."""

    generalist_s: float
    tasks_s: Sequence[float]
    mixture_s: float


def train_all(scale: Scale, folder: Path) -> Trained:
    """Trains for one epoch each; groups overlap and are of what the generalist confuses on validation."""
    held_out = max(scale.images, 16 * scale.classes)
    split = emnist_shaped(scale.classes, scale.rows, held_out, held_out)
    train, validation = examples(split.train, CPU), examples(split.validation, CPU)
    workshop = Workshop(folder, split, train, validation, CPU, Display(Console(quiet=True)))
    settings = Training(hidden=scale.hidden, epochs=1, batch_size=scale.batch_size)
    generalist = train_tasks(workshop, "members", tasks_of(workshop, "members", settings, [0], hard), train).networks[0]
    log_p_NK = predict(generalist, validation.inputs).log_softmax(dim=-1).numpy()
    groups = make_groups(moments(log_p_NK), scale.specialists, scale.size, overlap=True, seed=0)
    asked = Asked(settings, plain, generalist, groups, 1000)
    return Trained(workshop, asked, train_specialists(workshop, asked).networks)


def epochs(trained: Trained, repetitions: int) -> list[Epoch]:
    """All three by turns, so that a drift of the machine meets them alike; `train_all` has warmed ours up."""
    workshop, settings = trained.workshop, trained.asked.settings
    (generalist,) = tasks_of(workshop, "members", settings, [0], hard)
    tasks = specialist_tasks(workshop, trained.asked)
    _mixture_s(trained, settings.batch_size)
    return [
        Epoch(
            _task_s(workshop, generalist),
            [_task_s(workshop, task) for task in tasks],
            _mixture_s(trained, len(workshop.train.labels)),
        )
        for _ in range(repetitions)
    ]


def _task_s(workshop: Workshop, task: Task) -> float:
    def work(folder: Path) -> None:
        train_tasks(workshop, task.label, [task._replace(folder=folder)], workshop.train)

    return _seconds(work)


def _mixture_s(trained: Trained, rows: int) -> float:
    workshop, settings = trained.workshop, trained.asked.settings
    sizes = [workshop.split.shape[0], *settings.hidden, len(workshop.split.classes)]
    normalise = normalise_for(workshop.split.train.inputs, workshop.split.image)
    mixture = Module(Mixture(sizes, len(trained.asked.groups)), normalise)
    some = Examples(workshop.train.inputs[:rows], workshop.train.labels[:rows])

    def work(folder: Path) -> None:
        with cpu_threads(usable_cpus()):
            fit(mixture, some, workshop.validation, hard, settings, [0], folder / "checkpoint", lambda _: None)

    return _seconds(work)


def _seconds(work: Callable[[Path], object]) -> float:
    """Of work in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        work(Path(folder))
        return time.perf_counter() - start


def table(trained: Trained, measured: Sequence[Epoch]) -> Iterator[str]:
    """Medians over the repetitions, and of ratios within one repetition the least and the greatest."""
    tasks, number = specialist_tasks(trained.workshop, trained.asked), len(trained.asked.groups)
    rows = len(trained.workshop.train.labels)
    own = max(2 * task.order.half for task in tasks if isinstance(task.order, HalfAndHalf))
    whole, joint = [epoch.generalist_s for epoch in measured], [epoch.mixture_s for epoch in measured]
    every, longest = ([way(epoch.tasks_s) for epoch in measured] for way in (sum, max))
    yield "| an epoch of | seconds | of the generalist's | examples each network sees | µs an example and network |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for title, times_s, seen, networks in (
        ("the generalist", whole, rows, 1),
        (f"all {number} specialists, {len(tasks)} trainings one after another", every, own, number),
        (f"the longest of these {len(tasks)} trainings", longest, own, number / len(tasks)),
        (f"a mixture of {number} experts, jointly", joint, rows, number),
    ):
        each = f"{seen:,} | {statistics.median(times_s) / seen / networks * 1e6:.1f}"
        yield f"| {title} | {statistics.median(times_s):.3f} | {ratio(times_s, whole)} | {each} |"
    parts = ", ".join(f"{statistics.median(part):.3f}" for part in zip(*(e.tasks_s for e in measured), strict=True))
    yield f"\nSeconds of each training: {parts}. None waits for another: with a machine for each it is the longest."
    yield f"The mixture's epoch over that of all specialists on one machine: {ratio(joint, every)}; with a machine for"
    yield f"each specialist: {ratio(joint, longest)}."


def ratio(ours_s: Sequence[float], theirs_s: Sequence[float]) -> str:
    """The median of ours over theirs, repetition by repetition, with the least and the greatest."""
    ratios = [ours / theirs for ours, theirs in zip(ours_s, theirs_s, strict=True)]
    return f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
