"""What is trained for the paper's section 5: generalists, their specialists, controls of the same cost, and students.

Each seed has a generalist with groups, specialists, controls and students of its own. It knows networks and how they do
on the test set, which is shown to finished ones, not the rows that are made of them.
Legend: R seeds, N test examples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from trainer.answers import Teacher, teacher_of
from trainer.ensemble import Ensemble
from trainer.fit import View
from trainer.lesson import with_transfer
from trainer.objectives import Distilling, hard
from trainer.reproduce.lab import Lab, named
from trainer.reproduce.paired import paired
from trainer.reproduce.specialists_plan import Plan
from trainer.specialise import Team, answering, make_team
from trainer.specialists import group_sizes
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
    def by_seed(self) -> list[NDArray[np.bool_]]:
        """The same for each seed, [1, N]."""
        return list(self.right_RN[:, None])

    @property
    def accuracies(self) -> list[float]:
        """On the test examples, in %."""
        return [100.0 * float(right_N.mean()) for right_N in self.right_RN]

    def gain_over(self, other: Tested) -> dict[str, Any]:
        """Points gained on the same test examples, with 95 % intervals: over all seeds, and of each."""
        pairs = zip(self.by_seed, other.by_seed, strict=True)
        return {
            "points": paired(self.right_RN, other.right_RN).times(100.0),
            "of_each_seed": [paired(mine, theirs).times(100.0) for mine, theirs in pairs],
        }

    def beats(self, other: Tested) -> bool:
        """With an interval above 0, and in every seed, because the interval does not hold the spread of networks."""
        pairs = zip(self.by_seed, other.by_seed, strict=True)
        return paired(self.right_RN, other.right_RN).shown and all(paired(*pair).value > 0 for pair in pairs)


class Teams:
    """All of it over one lab and plan, trained when it is asked for."""

    def __init__(self, lab: Lab, plan: Plan) -> None:
        self.lab, self.plan = lab, plan
        self.split = lab.workshop.split
        self.view: View = Distorting(self.split.background)
        self.seen = plan.generalist.epochs * len(self.split.train.labels)
        """Examples that a generalist sees in training."""

    @cached_property
    def generalists(self) -> Tested:
        """Each at the best of its epochs on validation."""
        seeds = range(GENERALISTS, GENERALISTS + self.plan.seeds)
        return self._tested(self._train(f"{len(seeds)}-generalists", seeds))

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
            epochs = math.ceil(self.seen_by(team) / len(self.split.train.labels))
            own = {"epochs": epochs, "learning_rate": asked.learning_rate, "weight_decay": asked.weight_decay}
            settings = self.plan.generalist.model_copy(update=own)
            title, seed = named(f"longer-{place}", self.plan.generalist), LONGER + place
            networks += self.lab.train_longer(title, settings, generalist, seed, self.view).networks
        return self._tested(networks)

    @cached_property
    def ensembles(self) -> Tested:
        """Each generalist with as many others as together see at least as many examples as its specialists."""
        return self._tested(self._ensembles)

    @cached_property
    def _ensembles(self) -> list[Ensemble]:
        ensembles = []
        for place, (generalist, team) in enumerate(zip(self.generalists.networks, self.teams, strict=True)):
            first, number = OTHERS * (1 + place), self.others(team)
            others = self._train(f"{number}-others-{place}", range(first, first + number))
            ensembles.append(Ensemble([generalist, *others], "arithmetic"))
        return ensembles

    @cached_property
    def cheaper_ensembles(self) -> Tested:
        """The same with one member fewer, which together cost less than the specialists, or as much."""
        return self._tested([Ensemble(list(each.members)[:-1], each.mean) for each in self._ensembles])

    @cached_property
    def students(self) -> Tested:
        """Of each team."""
        teachers = [answering(self.lab.workshop, team.combined) for team in self.teams]
        return self._tested([self._student(place, teacher) for place, teacher in enumerate(teachers)])

    @cached_property
    def students_of_generalists(self) -> Tested:
        """The same from the same inputs, taught by the generalist alone."""
        alone = [Ensemble([network], "arithmetic") for network in self.generalists.networks]
        teachers = [teacher_of(self.lab.workshop, module) for module in alone]
        return self._tested([self._student(place, teacher) for place, teacher in enumerate(teachers)])

    def others(self, team: Team) -> int:
        """How many further generalists cost at least as much as a team's specialists."""
        return math.ceil(self.seen_by(team) / self.seen)

    def seen_by(self, team: Team) -> int:
        """Examples that all specialists of a team see in training."""
        largest = max(group_sizes(self.split.train.labels, team.groups))
        return self.plan.specialists.epochs * len(team.groups) * 2 * largest

    def _train(self, title: str, seeds: Sequence[int]) -> list[nn.Module]:
        settings = self.plan.generalist
        return self.lab.train(title, settings, seeds, hard, self.lab.workshop.train, self.view).networks

    def _team(self, place: int, generalist: nn.Module) -> Team:
        shop, asked, settings = self.lab.workshop, self.plan.specialists, self.plan.generalist
        folder = shop.folder / named(named(f"specialists-{place}", settings), asked)
        folder.mkdir(exist_ok=True)
        first = SPECIALISTS + 100 * place
        return make_team(
            shop._replace(folder=folder), asked, asked.training(settings), self.view, [generalist], first, split_seed=0
        )

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
