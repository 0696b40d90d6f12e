"""From an ensemble to its generalist with specialists, in order: groups, training, the combination, one graph.

How each is done is in the files that it imports. Labels are not looked at before the specialists are trained.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from service.manifest import Combination
from trainer.answers import Teacher, teacher_of
from trainer.combination import choose_steps
from trainer.combined import Combined, Voting, votes_on
from trainer.ensemble import Ensemble, predict
from trainer.evaluate import Contender
from trainer.export import export
from trainer.group_report import report_groups
from trainer.groups import Group, Moments, confusion, make_groups, moments
from trainer.models import proof_inputs
from trainer.recipe import Recipe
from trainer.specialists import Asked, train_specialists
from trainer.stages import Trained, Workshop
from trainer.teachers import Tutor, member_view


def specialise(workshop: Workshop, recipe: Recipe, ensemble: Tutor, first_seed: int) -> Tutor | None:
    """The generalist, the first of the members, with its specialists, combined and exported; None where the recipe
    asks for none."""
    asked = recipe.specialists
    if asked is None:
        return None
    generalists, seeds = ensemble.members[: asked.generalists], ensemble.contender.seeds[: asked.generalists]
    split, inputs = workshop.split, workshop.validation.inputs
    with workshop.display.stage("groups", 1):
        log_p_NK = predict(Ensemble(generalists, "arithmetic").to(workshop.device), inputs).numpy()
        found = moments(log_p_NK)
        size = asked.size or -(-len(split.classes) // asked.number)
        how = (asked.number, size, asked.overlap, recipe.split_seed)
        groups = make_groups(found, *how, standardise=asked.standardise)
        voting = Voting(groups, len(split.classes), asked.top_classes)
    settings, view = asked.training(recipe.ensemble), member_view(recipe, split)
    trained = train_specialists(workshop, Asked(settings, view, generalists[0], groups, first_seed, asked.full_softmax))
    tell(workshop, groups, found, trained)
    report_groups(workshop.folder, split, log_p_NK, groups, found, trained.errors)
    with workshop.display.stage("combination", 1) as advance:
        combined, said = combine_best(generalists, trained.networks, voting, inputs, split.classes, groups)
        exported = export(combined, proof_inputs(split))
        advance(1, f"{said.steps} {said.method} steps, off by {said.largest_error:.1g} at most on validation")
    contender = Contender("specialists", exported, [*seeds, *trained.seeds], [], combination=said)
    return Tutor(answering(workshop, combined), contender, [])


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
