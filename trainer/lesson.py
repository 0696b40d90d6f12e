"""What is learnt in a run: its data, who may teach, and what the teacher says of the transfer set.

It knows what comes before a student; training one, a sweep of many, or the smallest that will do are other files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.answers import soft_targets
from trainer.cluster import Here, cluster_of
from trainer.data import Split, load_data, load_transfer
from trainer.display import Display
from trainer.errors import RecipeError, TrainerError
from trainer.fit import Examples, View, plain
from trainer.losses import UNLABELLED
from trainer.modules import check_network, source_sha256
from trainer.objectives import Distilling, hard
from trainer.recipe import Recipe, StudentTable
from trainer.runs import open_run, run_name
from trainer.specialise import specialise
from trainer.speech.corpus import CORPORA
from trainer.speech.frames import Speech
from trainer.stages import Task, Trained, Workshop, examples, spread, tasks_of, train_networks
from trainer.teachers import Tutor, given_teacher, trained_teacher
from trainer.views import NumberedViews, affine_views

SEEDS_PER_RUN, STUDENT_SEEDS, SPECIALIST_SEEDS = 10_000, 5_000, 8_000
"""Seed S gives its networks the seeds from 10,000 S on: members from 0, students and baselines from 5,000, specialists
from 8,000."""


class Options(NamedTuple):
    """What the command line says beside the recipe."""

    data_dir: Path | None
    models_dir: Path
    runs_dir: Path
    device: str
    seed: int
    resume: bool
    on: str = "here"


class Data(NamedTuple):
    """The split, and the inputs [U, ...] of the transfer set."""

    split: Split
    transfer: NDArray


class Lesson(NamedTuple):
    """A workshop, who may teach, who does, the examples [N] that students learn from, and the soft targets of each view
    of them."""

    workshop: Workshop
    ensemble: Tutor
    specialists: Tutor | None
    teacher: Tutor
    taught: Examples
    views: NumberedViews | None
    targets: list[Tensor]
    first_seed: int

    @property
    def _view(self) -> View:
        return self.views.as_view(self.targets) if self.views else plain

    def student_tasks(self, title: str, settings: StudentTable, seeds: int) -> list[Task]:
        """What `student` would train."""
        return tasks_of(self.workshop, title, settings, self._seeds(seeds), Distilling(settings), self._view)

    def spread(self, tasks: Sequence[Task]) -> None:
        """Trains all of these students on the cluster at once, where there is one, so that `student` finds them."""
        if not isinstance(self.workshop.cluster, Here):
            taught = self.taught._replace(log_teacher=self.targets[0])
            with self.workshop.display.stage("students", len(tasks)) as advance:
                spread(self.workshop, tasks, taught, lambda done: advance(done, ""))

    def student(self, title: str, settings: StudentTable, seeds: int) -> Trained:
        """Students of so many seeds."""
        taught, view = self.taught._replace(log_teacher=self.targets[0]), self._view
        return train_networks(self.workshop, title, settings, self._seeds(seeds), Distilling(settings), taught, view)

    def baseline(self, title: str, settings: StudentTable, seeds: int) -> Trained:
        """The same networks on the same budget and views, with hard labels only."""
        view: View = self.views.as_view(None) if self.views else plain
        return train_networks(self.workshop, title, settings, self._seeds(seeds), hard, self.workshop.train, view)

    def _seeds(self, count: int) -> range:
        return range(self.first_seed, self.first_seed + count)


def load(recipe: Recipe, recipe_dir: Path, options: Options, display: Display) -> Data:
    """The data of a recipe, once it is known that they can be looked at as it asks."""
    # Recordings take a minute and have stages of their own, of which none can lie inside another.
    with nullcontext() if recipe.data in CORPORA else display.stage("data", 1):
        split = load_data(recipe, recipe_dir, options.data_dir, display)
        transfer = load_transfer(recipe, recipe_dir, options.data_dir, split)
    if transfer.left_out:
        display.say(f"transfer: left out {transfer.left_out} inputs that are validation or test examples")
    check_fit(recipe, split)
    return Data(split, transfer.inputs)


@contextmanager
def open_lesson(
    recipe: Recipe, recipe_dir: Path, options: Options, display: Display, data: Data, kind: str = ""
) -> Iterator[Lesson]:
    """A run's folder, `<recipe><kind>-seed<S>-<hash>`, with ensemble and specialists trained, or a teacher read,
    and the one that teaches asked."""
    device = pick_device(options.device)
    sha256 = _sha256(recipe, *data)
    name = run_name(recipe, data_sha256=sha256, seed=options.seed, device=device.type, kind=kind)
    if options.resume and not (options.runs_dir / name).exists():
        display.say("no run of this recipe, seed, data and device to resume: starting from the beginning")
    with open_run(options.runs_dir, name, resume=options.resume) as folder:
        train, validation = training_examples(recipe, data.split, device), examples(data.split.validation, device)
        workshop = Workshop(folder, data.split, train, validation, device, display, cluster_of(options.on))
        first = options.seed * SEEDS_PER_RUN
        seeds = range(first, first + recipe.ensemble.members)
        ensemble = given_teacher(workshop, recipe, recipe_dir) or trained_teacher(workshop, recipe, seeds)
        specialists = specialise(workshop, recipe, ensemble, first + SPECIALIST_SEEDS)
        teacher = specialists if specialists and recipe.taught_by == "specialists" else ensemble
        taught, views = with_transfer(train, data.transfer), student_views(recipe, data.split)
        targets = soft_targets(workshop, teacher.teacher, taught.inputs, views)
        yield Lesson(workshop, ensemble, specialists, teacher, taught, views, targets, first + STUDENT_SEEDS)


def pick_device(asked: str) -> torch.device:
    """The device to train on. Raises TrainerError where CUDA is asked for and PyTorch has none."""
    available = torch.cuda.is_available()
    if asked == "cuda" and not available:
        raise TrainerError("asked for cuda, but PyTorch finds no CUDA device; use --device cpu or auto")
    return torch.device("cuda" if available and asked != "cpu" else "cpu")


def training_examples(recipe: Recipe, split: Split, device: torch.device) -> Examples:
    """The training part, and behind it the further views that the recipe asks for."""
    train = examples(split.train, device)
    if not recipe.views or split.image is None:
        return train
    views = affine_views(train.inputs.cpu(), recipe.views, recipe.split_seed, split.image.range[0]).to(device)
    return Examples(torch.cat([train.inputs, views]), train.labels.repeat(1 + recipe.views))


def _sha256(recipe: Recipe, split: Split, transfer: NDArray) -> str:
    """Of everything outside the recipe that is learnt from: another transfer set or network is another run."""
    digest = hashlib.sha256(split.sha256().encode())
    digest.update(np.ascontiguousarray(transfer, dtype=np.float32).data)
    for network in (recipe.ensemble.network, recipe.student.network):
        digest.update(source_sha256(network).encode())
    return digest.hexdigest()


def with_transfer(train: Examples, transfer: NDArray) -> Examples:
    """The training examples and, behind them, unlabelled inputs [U, ...]."""
    if not len(transfer):
        return train
    device = train.labels.device
    inputs = torch.from_numpy(np.ascontiguousarray(transfer, dtype=np.float32)).to(device)
    nothing = torch.full((len(transfer),), UNLABELLED, dtype=torch.int64, device=device)
    return Examples(torch.cat([train.inputs, inputs]), torch.cat([train.labels, nothing]))


def student_views(recipe: Recipe, split: Split) -> NumberedViews | None:
    """The numbered views that student and teacher share, and of which the baseline has the same."""
    asked = recipe.student
    if not (asked.jitter or asked.distort or asked.mix):
        return None
    number = min(asked.numbered_views, asked.epochs)
    return NumberedViews(number, recipe.split_seed, asked.jitter, asked.mix, split.background, asked.distort)


def check_fit(recipe: Recipe, split: Split) -> None:
    """Raises RecipeError where the recipe's networks, moved images or specialists are not for such data."""
    asked: dict[str, int] = {"views": recipe.views}
    for name, table in (("ensemble", recipe.ensemble), ("student", recipe.student)):
        check_network(table.network, split.shape, len(split.classes), table.hidden)
        asked |= {f"{name}.jitter": table.jitter, f"{name}.distort": table.distort}
    keys = [f"{key} = {str(value).lower()}" for key, value in asked.items() if value]
    if isinstance(split, Speech) and recipe.specialists is not None:
        raise RecipeError(
            f"recipe {recipe.name}: [specialists] are of classes, and those of {split.name} are states of words: "
            "expected no such table"
        )
    if keys and split.image is None:
        raise RecipeError(
            f"recipe {recipe.name}: {' and '.join(keys)} would move images, but the examples of {split.name} are none: "
            f"their shape is {list(split.shape)}"
        )
