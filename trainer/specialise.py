"""From an ensemble to its generalist with specialists, in order: groups, training, the combination, one graph.

How each is done is in the files that it imports. Labels are not looked at before the specialists are trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from service.manifest import Combination
from trainer.answers import Teacher, teacher_of
from trainer.combination import choose_steps
from trainer.combined import Combined, Voting, votes_on
from trainer.ensemble import Ensemble, predict
from trainer.evaluate import Contender
from trainer.export import export
from trainer.fit import View
from trainer.group_report import report_groups
from trainer.groups import Group, Moments, confusion, make_groups, moments
from trainer.models import proof_inputs
from trainer.recipe import Recipe, SpecialistsTable, Training
from trainer.specialists import Asked, train_specialists
from trainer.stages import Trained, Workshop
from trainer.teachers import Tutor, member_view


class Team(NamedTuple):
    """Generalists with their specialists: the module, what its manifest says of it, the groups, what the generalists
    predict of the validation inputs, [N, K] and in sum, and how the specialists were trained."""

    combined: Combined
    said: Combination
    groups: list[Group]
    log_p_NK: NDArray[np.float32]
    found: Moments
    trained: Trained


def specialise(workshop: Workshop, recipe: Recipe, ensemble: Tutor, first_seed: int) -> Tutor | None:
    """The generalist, the first of the members, with its specialists, combined and exported; None where the recipe
    asks for none."""
    asked = recipe.specialists
    if asked is None:
        return None
    generalists, seeds = ensemble.members[: asked.generalists], ensemble.contender.seeds[: asked.generalists]
    split, settings, view = workshop.split, asked.training(recipe.ensemble), member_view(recipe, workshop.split)
    team = make_team(workshop, asked, settings, view, generalists, first_seed, recipe.split_seed)
    tell(workshop, team.groups, team.found, team.trained)
    report_groups(workshop.folder, split, team.log_p_NK, team.groups, team.found, team.trained.errors)
    with workshop.display.stage("graph of specialists", 1):
        exported = export(team.combined, proof_inputs(split))
    contender = Contender("specialists", exported, [*seeds, *team.trained.seeds], [], combination=team.said)
    return Tutor(answering(workshop, team.combined), contender, [])


def make_team(
    workshop: Workshop,
    asked: SpecialistsTable,
    settings: Training,
    view: View,
    generalists: Sequence[nn.Module],
    first_seed: int,
    split_seed: int,
) -> Team:
    """Groups by what generalists confuse on validation, a specialist for each from the first of them, all combined."""
    classes, inputs = workshop.split.classes, workshop.validation.inputs
    with workshop.display.stage("groups", 1):
        log_p_NK = predict(Ensemble(generalists, "arithmetic").to(workshop.device), inputs).numpy()
        found = moments(log_p_NK)
        size = asked.size or -(-len(classes) // asked.number)
        groups = make_groups(found, asked.number, size, asked.overlap, split_seed, standardise=asked.standardise)
        voting = Voting(groups, len(classes), asked.top_classes)
    trained = train_specialists(workshop, Asked(settings, view, generalists[0], groups, first_seed, asked.full_softmax))
    with workshop.display.stage("combination", 1) as advance:
        combined, said = combine_best(generalists, trained.networks, voting, inputs, classes, groups)
        advance(1, f"{said.steps} {said.method} steps, off by {said.largest_error:.1g} at most on validation")
    return Team(combined, said, groups, log_p_NK, found, trained)


def combine_best(
    generalists: Sequence[nn.Module],
    specialists: Sequence[nn.Module],
    voting: Voting,
    inputs: torch.Tensor,
    classes: Sequence[str],
    groups: Sequence[Group],
) -> tuple[Combined, Combination]:
    """The module with as few steps as will do on inputs [N, ...], and what its manifest says of them."""
    combined = Combined(generalists, specialists, voting, "plain", 1).to(inputs.device).eval()
    chosen = choose_steps(votes_on(combined, inputs))
    combined.method, combined.steps = chosen.method, chosen.steps
    said = Combination(
        generalists=len(generalists),
        groups=tuple(tuple(classes[label] for label in group) for group in groups),
        top_classes=voting.top,
        method=chosen.method,
        steps=chosen.steps,
        largest_error=chosen.largest_error,
    )
    return combined, said


def answering(workshop: Workshop, combined: Combined) -> Teacher:
    """How the combination teaches: as another one, where the same networks are combined in another way."""
    return teacher_of(workshop, combined, f"{combined.voting.top} {combined.method} {combined.steps}")


def tell(workshop: Workshop, groups: Sequence[Group], found: Moments, trained: Trained) -> None:
    """A line for each group: its classes, its share of the confusion, and its specialist's errors, which are among its
    classes and the dustbin, or with a full softmax among all classes."""
    names, total = workshop.split.classes, len(workshop.split.validation.labels)
    for group, errors in zip(groups, trained.errors, strict=True):
        workshop.display.say(
            f"specialist of {', '.join(names[label] for label in group)}: {confusion(found, group):.1%} of the "
            f"generalist's confusion; {errors} errors of {total} on validation"
        )
