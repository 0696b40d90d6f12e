"""The story on one screen: members, their mean, soft targets, student and baseline, the table, the repository.

It knows the order of things. How each is done is in the files that it imports.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from service.manifest import Manifest
from trainer.answers import soft_targets
from trainer.data import Split, load_data, load_transfer
from trainer.display import Display
from trainer.errors import RecipeError, TrainerError
from trainer.evaluate import evaluate
from trainer.fit import Examples, plain
from trainer.losses import UNLABELLED
from trainer.models import contenders_of, model_names, publish_all, reduced_students
from trainer.modules import source_sha256
from trainer.objectives import distilling, hard
from trainer.plots import draw_plots
from trainer.publish import check_repository
from trainer.recipe import Recipe
from trainer.report import hardware, show_results, write_results
from trainer.runs import open_run, run_name
from trainer.stages import Workshop, examples, train_networks
from trainer.teachers import given_teacher, trained_teacher
from trainer.views import NumberedViews, affine_views

SEEDS_PER_RUN, STUDENT_SEEDS = 10_000, 5_000
"""Seed S gives its networks the seeds from 10,000 S on: members from 0, students and baselines from 5,000."""


class Options(NamedTuple):
    """What the command line says beside the recipe."""

    data_dir: Path | None
    models_dir: Path
    runs_dir: Path
    device: str
    seed: int
    resume: bool


def train(recipe: Recipe, recipe_dir: Path, options: Options, display: Display) -> list[Manifest]:
    """Runs a recipe from its data to published models and gives their manifests."""
    device = pick_device(options.device)
    where = hardware(device)
    with display.stage("data", 1):
        split = load_data(recipe, recipe_dir, options.data_dir)
        transfer = load_transfer(recipe, recipe_dir, split)
    if transfer.left_out:
        display.say(f"transfer: left out {transfer.left_out} inputs that are validation or test examples")
    check_views(recipe, split)
    check_repository(options.models_dir, model_names(recipe), split.shape, split.classes)
    name = run_name(recipe, data_sha256=_sha256(recipe, split, transfer.inputs), seed=options.seed, device=device.type)
    if options.resume and not (options.runs_dir / name).exists():
        display.say("no run of this recipe, seed, data and device to resume: starting from the beginning")
    with open_run(options.runs_dir, name, resume=options.resume) as folder:
        train_set, validation_set = training_examples(recipe, split, device), examples(split.validation, device)
        workshop = Workshop(folder, split, train_set, validation_set, device, display)
        first = options.seed * SEEDS_PER_RUN
        member_seeds = range(first, first + recipe.ensemble.members)
        student_seeds = range(first + STUDENT_SEEDS, first + STUDENT_SEEDS + recipe.student.seeds)

        taught_by = given_teacher(workshop, recipe, recipe_dir) or trained_teacher(workshop, recipe, member_seeds)
        taught = with_transfer(train_set, transfer.inputs)
        views = student_views(recipe, split)
        targets = soft_targets(workshop, taught_by.teacher, taught.inputs, views)
        students = train_networks(
            workshop,
            "student",
            recipe.student,
            student_seeds,
            distilling(recipe.student),
            taught._replace(log_teacher=targets[0]),
            views.as_view(targets) if views else plain,
        )
        baselines = train_networks(
            workshop,
            "baseline",
            recipe.student,
            student_seeds,
            hard,
            train_set,
            views.as_view(None) if views else plain,
        )

        contenders = contenders_of(workshop, taught_by.exported, taught_by.seeds, students, baselines)
        contenders += reduced_students(recipe, workshop, contenders[-1])
        with display.stage("test", 1):
            results = evaluate(contenders, taught_by.members, split.test)
        manifests = publish_all(options.models_dir, recipe, workshop, contenders, results)
        with display.stage("plots", 1):
            draw_plots(folder, workshop, contenders, results, recipe.student.temperature)
        write_results(folder, recipe, results, manifests, where)
        show_results(display.console, results, where)
        display.say(f"results and plots: {folder}")
        return manifests


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
    background = split.image.range[0] if split.image else 0.0
    number = min(asked.numbered_views, asked.epochs)
    return NumberedViews(number, recipe.split_seed, asked.jitter, asked.mix, background, asked.distort)


def check_views(recipe: Recipe, split: Split) -> None:
    """Raises RecipeError where a recipe would move images and the data are none."""
    asked: dict[str, int] = {"views": recipe.views}
    for name, table in (("ensemble", recipe.ensemble), ("student", recipe.student)):
        asked |= {f"{name}.jitter": table.jitter, f"{name}.distort": table.distort}
    keys = [f"{key} = {str(value).lower()}" for key, value in asked.items() if value]
    if keys and split.image is None:
        raise RecipeError(
            f"recipe {recipe.name}: {' and '.join(keys)} would move images, but the examples of {split.name} are none: "
            f"their shape is {list(split.shape)}"
        )
