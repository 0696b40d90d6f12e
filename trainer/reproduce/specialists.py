"""The paper's section 5, row by row: what specialists gain over their generalist and over controls of the same cost,
and how much of that one network keeps. It does not know training (teams.py)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data import load_data, load_transfer
from trainer.display import Display
from trainer.evaluate import share_kept
from trainer.groups import confusion
from trainer.lesson import Data
from trainer.recipe import Recipe
from trainer.reproduce.command import QUICK_EXAMPLES, Experiment, Rows, fewer
from trainer.reproduce.gains import by_cover, conditional_accuracy, relative_gain
from trainer.reproduce.lab import Lab
from trainer.reproduce.paired import paired
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
            "gain": longer.gain_over(self.trained.generalists),
            "gain_of_specialists": self.trained.combined.gain_over(longer),
        }

    def with_specialists(self) -> Measured:
        """Generalist and specialists combined, and the paper's two tables."""
        combined, teams = self.trained.combined, self.trained.teams
        conditional = {"generalist": self.trained.generalists, "combined": combined}
        pairs = zip(self.trained.generalists.right_RN, combined.right_RN, teams, strict=True)
        covers = [by_cover(before, after, self.test.labels, team.groups) for before, after, team in pairs]
        return combined.accuracies, {
            "examples_seen": [self.trained.seen_by(team) for team in teams],
            "examples_seen_by_generalist": self.trained.seen,
            "validation": combined.validation,
            "gain": combined.gain_over(self.trained.generalists),
            "conditional_accuracy": {name: self._conditional(tested) for name, tested in conditional.items()},
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
            "gain_of_specialists": self.trained.combined.gain_over(ensembles),
            "one_fewer": self.trained.cheaper_ensembles.accuracies,
            "gain_of_specialists_over_one_fewer": self.trained.combined.gain_over(self.trained.cheaper_ensembles),
        }

    def student(self) -> Measured:
        """The specialists distilled back."""
        students = self.trained.students
        return students.accuracies, {
            "transfer_inputs": len(self.lab.workshop.train.labels) + len(self.lab.transfer),
            "validation": students.validation,
            "gain": students.gain_over(self.trained.generalists),
        }

    def control(self) -> Measured:
        """What distilling gains without specialists."""
        controls = self.trained.students_of_generalists
        return controls.accuracies, {
            "validation": controls.validation,
            "gain": controls.gain_over(self.trained.generalists),
            "gain_of_student": self.trained.students.gain_over(controls),
        }

    def gain_kept(self) -> Measured:
        """(student - generalist) / (with specialists - generalist), of each seed that shows a gain, and of all."""
        kinds = self.trained.students, self.trained.combined, self.trained.generalists
        kept = [_kept(*right) for right in zip(*(kind.by_seed for kind in kinds), strict=True)]
        values = [found[0] for found in kept if found is not None]
        return values, {
            "together": _kept(*(kind.right_RN for kind in kinds)),
            "beats_student_from_generalist": self.trained.students.beats(self.trained.students_of_generalists),
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


def _kept(
    student_RN: NDArray[np.bool_], combined_RN: NDArray[np.bool_], generalist_RN: NDArray[np.bool_]
) -> list[float] | None:
    """% of the specialists' gain that the student keeps, and its interval; None where that gain is not shown."""
    if not paired(combined_RN, generalist_RN).shown:
        return None
    before_N = generalist_RN.mean(axis=0)
    kept = share_kept(student_RN.mean(axis=0) - before_N, combined_RN.mean(axis=0) - before_N)
    return [round(100.0 * number, 4) for number in (kept.value, *kept.interval)]


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


def _load(data_dir: Path | None, quick: bool, _display: Display) -> Data:
    recipe = Recipe(name="emnist", data="emnist", transfer="emnist")
    split = load_data(recipe, Path(), data_dir)
    transfer = load_transfer(recipe, Path(), data_dir, split).inputs
    return Data(fewer(split), transfer[:QUICK_EXAMPLES]) if quick else Data(split, transfer)


def _rows(lab: Lab, quick: bool) -> Rows:
    plans = {"": QUICK} if quick else {"": FULL, WIDE_PREFIX: WIDE}
    figures = [figure for prefix, plan in plans.items() for figure in Specialists(lab, plan, prefix).figures()]
    return Rows(figures, lambda: sum(estimate_s(lab, plan) for plan in plans.values()))


SPECIALISTS = Experiment("specialists", _load, _rows, write_report)
"""Section 5, and the step that it leaves open."""
