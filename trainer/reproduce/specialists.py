"""The paper's section 5, row by row: what specialists gain over their generalist and over controls of the same cost,
and how much of that one network keeps. It does not know training (teams.py)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from trainer.data import load_data, load_transfer
from trainer.groups import confusion
from trainer.lesson import Data
from trainer.recipe import Recipe
from trainer.reproduce.command import Experiment, Rows
from trainer.reproduce.gains import by_cover, conditional_accuracy, relative_gain
from trainer.reproduce.lab import Lab
from trainer.reproduce.paired import paired, share_kept
from trainer.reproduce.rows import Figure, Measured
from trainer.reproduce.specialists_plan import FULL, QUICK, WIDE, WIDE_PREFIX, Plan
from trainer.reproduce.specialists_report import write_report
from trainer.reproduce.teams import Teams, Tested
from trainer.specialise import Team


class Specialists:
    """The rows over one lab and plan; `prefix` is what their ids begin with."""

    def __init__(self, lab: Lab, plan: Plan, prefix: str = "") -> None:
        self.lab, self.plan, self.prefix, self.trained = lab, plan, prefix, Teams(lab, plan)
        self.test = lab.workshop.split.test

    def figures(self) -> list[Figure]:
        """Every row, in the order in which what is shared is made."""
        asked = self.plan.specialists
        specialists = f"{asked.number} specialists{' of full softmaxes' if asked.full_softmax else ''}"
        figures = [
            _accuracy("generalist", f"{self._sizes()}, distorted images", self.generalist),
            _accuracy("with_specialists", f"the generalist with {specialists}", self.with_specialists),
            _share("relative_gain", "accuracy gained, of the generalist's", 4.4, None, self.relative_gain),
            _accuracy("generalist_longer", "trained on for as long as the specialists", self.longer),
            _accuracy("ensemble_same_cost", "generalists that together cost as much", self.same_cost),
            _accuracy("student", f"{self._sizes()} from generalist and specialists", self.student),
            _accuracy("student_from_generalist", "the same from the generalist alone", self.control),
            _share("gain_kept_by_student", "the student's gain, of the specialists'", None, 80.0, self.gain_kept),
        ]
        return [figure._replace(id=self.prefix + figure.id) for figure in figures]

    def _sizes(self) -> str:
        split = self.lab.workshop.split
        return "-".join(map(str, (math.prod(split.shape), *self.plan.generalist.hidden, len(split.classes))))

    def generalist(self) -> Measured:
        """At the best of its epochs on validation; that more of them bring little is for its control to show."""
        generalists = self.trained.generalists
        return generalists.accuracies, {"examples_seen": self.trained.seen, "validation": generalists.validation}

    def longer(self) -> Measured:
        """The control: the specialists' time spent on the generalist."""
        longer = self.trained.longer
        return longer.accuracies, {
            "validation": longer.validation,
            "gain": _gain(longer, self.trained.generalists),
            "gain_of_specialists": _gain(self.trained.combined, longer),
        }

    def with_specialists(self) -> Measured:
        """Generalist and specialists combined, and the paper's two tables."""
        combined, teams = self.trained.combined, self.trained.teams
        before = self._conditional(self.trained.generalists)
        pairs = zip(self.trained.generalists.right_RN, combined.right_RN, teams, strict=True)
        covers = [by_cover(before, after, self.test.labels, team.groups) for before, after, team in pairs]
        return combined.accuracies, {
            "examples_seen": [self.trained.seen_by(team) for team in teams],
            "examples_seen_by_generalist": self.trained.seen,
            "validation": combined.validation,
            "gain": _gain(combined, self.trained.generalists),
            "conditional_accuracy": {"generalist": before, "combined": self._conditional(combined)},
            "by_cover": [[cover._asdict() for cover in each] for each in covers],
            "groups": [team.said.groups for team in teams],
            "confusion_within_groups": [_confusion(team) for team in teams],
            "steps": [f"{team.said.steps} {team.said.method}" for team in teams],
            "largest_error": [team.said.largest_error for team in teams],
        }

    def relative_gain(self) -> Measured:
        """As the paper's +4.4 %."""
        pairs = zip(self.trained.combined.accuracies, self.trained.generalists.accuracies, strict=True)
        return [relative_gain(*pair) for pair in pairs], {}

    def same_cost(self) -> Measured:
        """What the specialists' cost buys as further generalists, rounded up."""
        ensembles = self.trained.ensembles
        return ensembles.accuracies, {
            "members": [1 + self.trained.others(team) for team in self.trained.teams],
            "validation": ensembles.validation,
            "gain_of_specialists": _gain(self.trained.combined, ensembles),
            "one_fewer": self.trained.cheaper_ensembles.accuracies,
            "gain_of_specialists_over_one_fewer": _gain(self.trained.combined, self.trained.cheaper_ensembles),
        }

    def student(self) -> Measured:
        """The specialists distilled back."""
        students = self.trained.students
        return students.accuracies, {
            "transfer_inputs": len(self.lab.workshop.train.labels) + len(self.lab.transfer),
            "validation": students.validation,
            "gain": _gain(students, self.trained.generalists),
        }

    def control(self) -> Measured:
        """What distilling gains without specialists."""
        controls = self.trained.students_of_generalists
        return controls.accuracies, {
            "validation": controls.validation,
            "gain": _gain(controls, self.trained.generalists),
            "gain_of_student": _gain(self.trained.students, controls),
        }

    def gain_kept(self) -> Measured:
        """(student - generalist) / (with specialists - generalist), of each seed that shows a gain, and of all."""
        student, after, before = self.trained.students, self.trained.combined, self.trained.generalists
        kept = [share_kept(*right) for right in zip(student.by_seed, after.by_seed, before.by_seed, strict=True)]
        values = [100.0 * found.value for found in kept if found is not None]
        together = share_kept(student.right_RN, after.right_RN, before.right_RN)
        return values, {
            "together": together and together.times(100.0),
            "beats_student_from_generalist": _beats(student, self.trained.students_of_generalists),
            "seeds_without_gain": self.plan.seeds - len(values),
        }

    def _conditional(self, tested: Tested) -> list[float]:
        pairs = zip(tested.networks, self.trained.teams, strict=True)
        return [
            conditional_accuracy(self.lab.logits(network, self.test), self.test.labels, team.groups)
            for network, team in pairs
        ]


def _confusion(team: Team) -> list[float]:
    """The share of the generalist's confusion that is within each group."""
    return [round(confusion(team.found, group), 4) for group in team.groups]


def _accuracy(name: str, title: str, measure: Any) -> Figure:
    return Figure(name, title, None, None, "validation", measure, "test_accuracy")


def _share(name: str, title: str, paper: float | None, goal: float | None, measure: Any) -> Figure:
    return Figure(name, title, paper, goal, "validation", measure, "percent")


def _gain(tested: Tested, over: Tested) -> dict[str, Any]:
    """Points gained on the same test examples, with 95 % intervals: over all seeds, and of each."""
    pairs = zip(tested.by_seed, over.by_seed, strict=True)
    return {
        "points": paired(tested.right_RN, over.right_RN).times(100.0),
        "of_each_seed": [paired(mine, theirs).times(100.0) for mine, theirs in pairs],
    }


def _beats(tested: Tested, over: Tested) -> bool:
    """With an interval above 0, and in every seed, because the interval does not hold the spread of networks."""
    pairs = zip(tested.by_seed, over.by_seed, strict=True)
    return paired(tested.right_RN, over.right_RN).shown and all(paired(*pair).value > 0 for pair in pairs)


def estimate_s(lab: Lab, plan: Plan) -> float:
    """Seconds that all rows take here, from an epoch of the generalist over a few examples."""
    epoch = lab.seconds(plan.generalist, Teams(lab, plan).view)
    asked, student = plan.specialists, plan.student
    group = (asked.size or 0) / len(lab.workshop.split.classes)  # of the examples, where it has common and rare classes
    specialists = asked.epochs * 2 * asked.number * group
    further = plan.generalist.epochs * math.ceil(specialists / plan.generalist.epochs)
    transfer = 1 + len(lab.transfer) / len(lab.workshop.train.labels)
    asking = student.numbered_views * (asked.number + 2) / 3  # forward alone is about a third of a step
    epochs = plan.generalist.epochs + 2 * specialists + further + transfer * (2 * student.epochs + asking)
    return plan.seeds * epochs * epoch


def _load(data_dir: Path | None) -> Data:
    recipe = Recipe(name="emnist", data="emnist", transfer="emnist")
    split = load_data(recipe, Path(), data_dir)
    return Data(split, load_transfer(recipe, Path(), data_dir, split).inputs)


def _rows(lab: Lab, quick: bool) -> Rows:
    plans = {"": QUICK} if quick else {"": FULL, WIDE_PREFIX: WIDE}
    figures = [figure for prefix, plan in plans.items() for figure in Specialists(lab, plan, prefix).figures()]
    return Rows(figures, lambda: sum(estimate_s(lab, plan) for plan in plans.values()))


SPECIALISTS = Experiment("specialists", _load, _rows, write_report)
"""Section 5, and the step that it leaves open."""
