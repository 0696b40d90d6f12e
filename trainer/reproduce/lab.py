"""Where experiments train: each training is named by what it is of, kept in a folder, and not done twice.

It knows the stages of a run and the test set, which it shows to finished networks alone, not the experiments.
Legend: R networks, N examples, K classes.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor, nn

from trainer.answers import Teacher, soft_targets
from trainer.data.split import Part
from trainer.display import Display
from trainer.ensemble import predict
from trainer.fit import Examples, Loss, View, plain
from trainer.heads import start_of
from trainer.objectives import hard
from trainer.recipe import StudentTable, Table, Training
from trainer.stages import Trained, Workshop, tasks_of, train_networks, train_tasks
from trainer.views import NumberedViews

TRIAL = 4096
"""Examples of the epoch by which the time of a training is estimated."""


class Lab(NamedTuple):
    """A workshop, whose folder holds everything that was trained, and unlabelled inputs [U, ...], possibly none."""

    workshop: Workshop
    transfer: NDArray

    def train(
        self,
        title: str,
        settings: Training,
        seeds: Sequence[int],
        loss: Loss,
        examples: Examples,
        view: View = plain,
        validation: Examples | None = None,
    ) -> Trained:
        """Trains one network per seed, or finds them. Title and settings name a training: other seeds, or more of them,
        need another title."""
        shop = self.workshop if validation is None else self.workshop._replace(validation=validation)
        return train_networks(shop, named(title, settings), settings, seeds, loss, examples, view)

    def train_longer(self, title: str, settings: Training, network: nn.Module, seed: int, view: View) -> Trained:
        """Goes on training a network of those settings, from the weights that it has, or finds what came of it."""
        title, classes = named(title, settings), len(self.workshop.split.classes)
        tasks = tasks_of(self.workshop, title, settings, [seed], hard, view)
        start = start_of(network, settings.network, [()], classes, classes, full=True)  # its own weights, once
        return train_tasks(self.workshop, title, [task._replace(start=start) for task in tasks], self.workshop.train)

    def answers(self, title: str, teacher: Teacher, inputs: Tensor, views: NumberedViews | None = None) -> list[Tensor]:
        """Soft targets for inputs [N, ...], view by view."""
        return soft_targets(self.workshop._replace(folder=self.workshop.folder / title), teacher, inputs, views)

    def views(self, settings: StudentTable) -> NumberedViews:
        """The numbered views that such a student sees."""
        background = self.workshop.split.background
        return NumberedViews(settings.numbered_views, 0, settings.jitter, settings.mix, background, settings.distort)

    def test_errors(self, networks: Sequence[nn.Module]) -> list[float]:
        """Of each network, on the whole test set."""
        return [float((~right_N).sum()) for right_N in self.right(networks, self.workshop.split.test)]

    def right(self, networks: Sequence[nn.Module], part: Part) -> NDArray[np.bool_]:
        """Which examples each network has right, [R, N]."""
        return np.stack([self.logits(network, part).argmax(axis=1) == part.labels for network in networks])

    def logits(self, network: nn.Module, part: Part) -> NDArray[np.float32]:
        """[N, K]; of an ensemble log p."""
        inputs = torch.from_numpy(np.ascontiguousarray(part.inputs, dtype=np.float32))
        return predict(network.to(self.workshop.device).eval(), inputs.to(self.workshop.device)).numpy()

    def seconds(self, settings: Training, view: View = plain) -> float:
        """What one epoch of one such network over the training examples takes here, from two over a few of them.

        The difference from a shorter training, so that what a training costs but once does not count; one more goes
        first, for what a process costs but once.
        """
        few = only(self.workshop.train, torch.arange(min(TRIAL, len(self.workshop.train.labels))))
        trials = [settings.model_copy(update={"epochs": epochs}) for epochs in (1, 3, 1)]
        _, long, short = (self._trial(trial, few, view) for trial in trials)
        return max(0.0, long - short) / 2 * len(self.workshop.train.labels) / len(few.labels)

    def _trial(self, settings: Training, few: Examples, view: View) -> float:
        with TemporaryDirectory() as folder:
            quiet, validation = Display(Console(quiet=True)), only(few, torch.arange(min(256, len(few.labels))))
            shop = Workshop(Path(folder), self.workshop.split, few, validation, self.workshop.device, quiet)
            start = time.perf_counter()
            train_networks(shop, "trial", settings, [0], hard, few, view)
        return time.perf_counter() - start


def named(title: str, settings: Table) -> str:
    """A title with a hash of the settings: other settings are another training."""
    return f"{title}-{hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:8]}"


def only(examples: Examples, kept: Tensor) -> Examples:
    """The examples at these places [n], or where a mask [N] is true."""
    fields: list[Any] = [None if part is None else part[kept] for part in examples]
    return Examples(*fields)
