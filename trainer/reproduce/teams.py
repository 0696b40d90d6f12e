"""What is trained for the paper's section 5: generalists, their specialists, controls of the same cost, and students.

Each seed has a generalist with groups, specialists, controls and students of its own. It knows networks and how they do
on the test set, which is shown to finished ones, not the rows that are made of them.
Legend: R seeds, N test examples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from service.manifest import Combination
from trainer.answers import Teacher, teacher_of
from trainer.combined import Combined, Voting
from trainer.ensemble import Ensemble, Single
from trainer.fit import View
from trainer.groups import Group, confusion, make_groups, moments
from trainer.lesson import with_transfer
from trainer.objectives import Distilling, hard
from trainer.reproduce.lab import Lab, named
from trainer.reproduce.specialists_plan import Plan
from trainer.specialise import answering, combine_best
from trainer.specialists import Asked, examples_per_epoch, train_specialists
from trainer.views import Distorting

GENERALISTS, OTHERS, LONGER, STUDENTS, SPECIALISTS = 0, 100, 4_000, 5_000, 8_000
"""First seeds: of the generalists, of each one's further ensemble members (100 apart), of generalists that train on, of
students, and of each generalist's specialists (100 apart)."""


class Tested(NamedTuple):
    """Networks of one kind, one per seed, which of the test examples each has right, [R, N], and how many of the
    validation examples in %."""

    networks: Sequence[nn.Module]
    right_RN: NDArray[np.bool_]
    validation: list[float]

    @property
    def accuracies(self) -> list[float]:
        """On the test examples, in %."""
        return [100.0 * float(right_N.mean()) for right_N in self.right_RN]


class Team(NamedTuple):
    """A generalist with its specialists: the module, what is said of it, the groups, the share of the confusion that is
    within each, and how many examples all specialists have seen in training."""

    combined: Combined
    said: Combination
    groups: list[Group]
    confusion: list[float]
    seen: int


class Teams:
    """All of it over one lab and plan, trained when it is asked for."""

    def __init__(self, lab: Lab, plan: Plan) -> None:
        self.lab, self.plan = lab, plan
        self.split = lab.workshop.split
        image = self.split.image
        self.view: View = Distorting(image.range[0] if image else 0.0)
        self.seen = plan.generalist.epochs * len(self.split.train.labels)
        """Examples that a generalist sees in training."""

    @cached_property
    def generalists(self) -> Tested:
        """To their plateau on validation."""
        return self._tested(self._train("generalists", range(GENERALISTS, GENERALISTS + self.plan.seeds)))

    @cached_property
    def teams(self) -> list[Team]:
        """Each generalist with its specialists."""
        return [self._team(place, generalist) for place, generalist in enumerate(self.generalists.networks)]

    @cached_property
    def combined(self) -> Tested:
        """The teams."""
        return self._tested([team.combined for team in self.teams])

    @cached_property
    def longer(self) -> Tested:
        """The generalists, each trained on until it has seen as many further examples as its specialists."""
        networks, asked = [], self.plan.specialists
        for place, (generalist, team) in enumerate(zip(self.generalists.networks, self.teams, strict=True)):
            epochs = math.ceil(team.seen / len(self.split.train.labels))
            own = {"epochs": epochs, "learning_rate": asked.learning_rate, "weight_decay": asked.weight_decay}
            settings = self.plan.generalist.model_copy(update=own)
            title, seed = f"longer-{place}", LONGER + place
            networks += self.lab.train_longer(title, settings, generalist, seed, self.view).networks
        return self._tested(networks)

    @cached_property
    def ensembles(self) -> Tested:
        """Each generalist with as many others as together see at least as many examples as its specialists."""
        ensembles = []
        for place, (generalist, team) in enumerate(zip(self.generalists.networks, self.teams, strict=True)):
            first = OTHERS * (1 + place)
            others = self._train(f"others-{place}", range(first, first + self.others(team)))
            ensembles.append(Ensemble([generalist, *others], "arithmetic"))
        return self._tested(ensembles)

    @cached_property
    def students(self) -> Tested:
        """Of each team."""
        teachers = [answering(self.lab.workshop, team.combined) for team in self.teams]
        return self._tested([self._student(place, teacher) for place, teacher in enumerate(teachers)])

    @cached_property
    def students_of_generalists(self) -> Tested:
        """The same from the same inputs, taught by the generalist alone."""
        teachers = [teacher_of(self.lab.workshop, Single(network)) for network in self.generalists.networks]
        return self._tested([self._student(place, teacher) for place, teacher in enumerate(teachers)])

    def others(self, team: Team) -> int:
        """How many further generalists cost at least as much as a team's specialists."""
        return math.ceil(team.seen / self.seen)

    def _train(self, title: str, seeds: Sequence[int]) -> list[nn.Module]:
        settings = self.plan.generalist
        return self.lab.train(title, settings, seeds, hard, self.lab.workshop.train, self.view).networks

    def _team(self, place: int, generalist: nn.Module) -> Team:
        shop, asked = self.lab.workshop, self.plan.specialists
        found = moments(self.lab.logits(Ensemble([generalist], "arithmetic"), self.split.validation))
        size = asked.size or -(-len(self.split.classes) // asked.number)
        groups = make_groups(found, asked.number, size, asked.overlap, 0, standardise=asked.standardise)
        settings = asked.training(self.plan.generalist)
        folder = shop.folder / named(named(f"specialists-{place}", self.plan.generalist), asked)
        folder.mkdir(exist_ok=True)
        how = Asked(settings, self.view, generalist, groups, SPECIALISTS + 100 * place, asked.full_softmax)
        specialists = train_specialists(shop._replace(folder=folder), how).networks
        voting = Voting(groups, len(self.split.classes), asked.top_classes)
        inputs, classes = shop.validation.inputs, self.split.classes
        combined, said = combine_best([generalist], specialists, voting, inputs, classes, groups)
        seen = settings.epochs * examples_per_epoch(self.split.train.labels, groups)
        return Team(combined, said, groups, [round(confusion(found, group), 4) for group in groups], seen)

    def _student(self, place: int, teacher: Teacher) -> nn.Module:
        settings, shop, title = self.plan.student, self.lab.workshop, f"student-{place}-of-{teacher.sha256[:8]}"
        views, taught = self.lab.views(settings), with_transfer(shop.train, self.lab.transfer)
        targets = self.lab.answers(title, teacher, taught.inputs, views)
        seeds, loss, view = [STUDENTS + place], Distilling(settings), views.as_view(targets)
        taught = taught._replace(log_teacher=targets[0])
        (network,) = self.lab.train(title, settings, seeds, loss, taught, view).networks
        return network

    def _tested(self, networks: Sequence[nn.Module]) -> Tested:
        right = self.lab.right(networks, self.split.validation)
        validation = [100.0 * float(right_N.mean()) for right_N in right]
        return Tested(networks, self.lab.right(networks, self.split.test), validation)
