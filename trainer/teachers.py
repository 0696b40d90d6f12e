"""Who may teach in a run: an ensemble that is trained here, or a model that the recipe gives.

It knows where a teacher comes from, not what is learnt from it; specialists are specialise.py's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from service.manifest import GRAPH, MANIFEST, Manifest
from service.model import load_model
from trainer.answers import Teacher, teacher_of
from trainer.data.split import Split
from trainer.ensemble import Ensemble
from trainer.errors import RecipeError
from trainer.evaluate import Contender
from trainer.export import export
from trainer.fit import View, plain
from trainer.models import proof_inputs
from trainer.objectives import hard
from trainer.onnx_teacher import OnnxTeacher, read_teacher
from trainer.recipe import Recipe
from trainer.speech.frames import Speech
from trainer.stages import Workshop, train_networks
from trainer.views import Distorting, Jittered


class Tutor(NamedTuple):
    """Who may teach: how it answers, what is published of it, and the members of an ensemble that was trained here."""

    teacher: Teacher
    contender: Contender
    members: Sequence[nn.Module]


def trained_teacher(workshop: Workshop, recipe: Recipe, seeds: Sequence[int]) -> Tutor:
    """Trains the members; their mean is the teacher."""
    view = member_view(recipe, workshop.split)
    members = train_networks(workshop, "members", recipe.ensemble, seeds, hard, workshop.train, view)
    ensemble = Ensemble(members.networks, recipe.ensemble.mean)
    with workshop.display.stage("teacher", 1):
        exported = export(ensemble, proof_inputs(workshop.split))
    return Tutor(teacher_of(workshop, ensemble), Contender("ensemble", exported, seeds, []), members.networks)


def given_teacher(workshop: Workshop, recipe: Recipe, recipe_dir: Path) -> Tutor | None:
    """The recipe's `teacher`: an ONNX file, or a published model's version folder. None where it names none."""
    if recipe.teacher is None:
        return None
    path = recipe_dir / os.path.expanduser(recipe.teacher)  # noqa: PTH111 - Path's raises where there is no such user
    split, classes = workshop.split, workshop.split.classes
    if path.is_dir():
        if not (path / MANIFEST).exists():
            raise RecipeError(f"teacher {path}: no {MANIFEST} in it, expected a version folder such as NAME/1")
        served = split.corpus.words if isinstance(split, Speech) else classes
        check_classes(load_model(path, device="cpu").manifest, served)
        path = path / GRAPH
    with workshop.display.stage("teacher", 1):
        exported = read_teacher(path, proof_inputs(workshop.split), classes)
    answers = Teacher(exported.sha256, GraphAnswers(exported.graph))
    return Tutor(answers, Contender("ensemble", exported, [], []), [])


@dataclass(frozen=True)
class GraphAnswers:
    """How a graph answers. A session cannot go to another process, so each call opens one: milliseconds a shard."""

    graph: bytes

    def __call__(self, inputs: Tensor) -> Tensor:
        """Raw inputs [B, ...] -> log-probabilities [B, K] on the CPU."""
        return OnnxTeacher(self.graph).predict(inputs.cpu().numpy())


def check_classes(manifest: Manifest, classes: tuple[str, ...]) -> None:
    """Raises RecipeError where a published teacher has other classes than the data, or in another order."""
    if manifest.classes != classes:
        raise RecipeError(
            f"teacher {manifest.name}/{manifest.version} has the classes {', '.join(manifest.classes)}, expected the "
            f"data's: {', '.join(classes)}"
        )


def member_view(recipe: Recipe, split: Split) -> View:
    """How members see their images."""
    if split.image is None:
        return plain
    if recipe.ensemble.distort:
        return Distorting(split.image.range[0])
    return Jittered(recipe.ensemble.jitter, split.image.range[0]) if recipe.ensemble.jitter else plain
