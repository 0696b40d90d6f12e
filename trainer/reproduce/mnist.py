"""The paper's section 3, row by row: what is trained for each figure, and what it shares with the others.

Members are shared by the teacher, the ensemble and every student of the ensemble; convolutional controls teach the
students with jitter. Validation chooses every epoch; the test set is shown to finished networks, and chooses where the
paper let it, in the rows that say so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainer.answers import Teacher, teacher_of
from trainer.data.mnist import load_mnist
from trainer.data.split import Shares
from trainer.display import Display
from trainer.ensemble import Ensemble
from trainer.fit import View, plain
from trainer.lesson import Data
from trainer.objectives import Distilling, hard
from trainer.recipe import StudentTable, Training
from trainer.reproduce.command import Experiment, Rows, fewer
from trainer.reproduce.lab import Lab, only
from trainer.reproduce.mnist_plan import FULL, QUICK, Plan
from trainer.reproduce.mnist_report import write_report
from trainer.reproduce.paired import paired
from trainer.reproduce.repair import best_shift, prior_shifts, shifted
from trainer.reproduce.rows import Figure, Measured
from trainer.stages import Trained
from trainer.views import Distorting

MEMBERS, STUDENTS, TEACHERS = 0, 5_000, 8_000
"""First seeds of the members, of students and baselines, and of the convolutional networks."""
SHARES = Shares(validation=1 / 12, test=0.0, seed=0)
"""5,000 of the 60,000 training examples are for validation."""
SHIFTS = [round(0.1 * step, 1) for step in range(-150, 151)]


class Mnist:
    """The experiments over one lab and plan."""

    def __init__(self, lab: Lab, plan: Plan) -> None:
        self.lab, self.plan = lab, plan
        self.split = lab.workshop.split
        self.seeds = range(STUDENTS, STUDENTS + plan.seeds)

    def figures(self) -> list[Figure]:
        """Every row, in the order in which what is shared is made."""
        plain, distilled, matched = map(self._sizes, (self.plan.plain, self.plan.distilled, self.plan.matched))
        member, several = self._sizes(self.plan.members), self.plan.members.members
        cnn = f"convolutions {'-'.join(map(str, self.plan.convolutional.hidden))}"
        unseen = [k for k in range(len(self.split.classes)) if k not in (7, 8)]
        return [
            Figure("plain", f"{plain}, hard labels", 146, 146, "validation", self.plain),
            Figure("teacher", f"{member}, distorted images, dropout", 67, 67, "validation", self.teacher),
            Figure("ensemble_10", f"{several} of them", None, 50, "validation", self.ensemble),
            Figure("distilled_t20", f"{distilled} from the {several}, T = 20", 74, 74, "validation", self.distilled),
            *self._omitted("no_threes", "without any 3", [3], 206, 109, 109),
            *self._omitted("sevens_eights", "7s and 8s only", unseen, 4730, 1320, 1320),
            Figure("best_student_control", f"{cnn}, hard labels", None, None, "validation", self.controls),
            Figure("best_student", f"{cnn} from {self.plan.seeds} of them", None, 40, "validation", self.best_student),
            Figure("distilled_jitter_control", f"{matched}, hard labels", None, None, "validation", self.blunt),
            Figure("distilled_jitter", f"{matched} from convolutions", None, 55, "validation", self.matched),
            *self._temperatures(),
        ]

    def _sizes(self, settings: Training) -> str:
        """`784-800-800-10`."""
        sizes = (math.prod(self.split.shape), *settings.hidden, len(self.split.classes))
        return "-".join(map(str, sizes))

    @cached_property
    def members(self) -> Trained:
        """The ten teachers."""
        seeds = range(MEMBERS, MEMBERS + self.plan.members.members)
        shop = self.lab.workshop
        return self.lab.train("members", self.plan.members, seeds, hard, shop.train, Distorting(self.split.background))

    @cached_property
    def targets(self) -> Tensor:
        """What the ten say of the training examples."""
        return self.lab.answers("ensemble", self._teacher(self.members), self.lab.workshop.train.inputs)[0]

    @cached_property
    def convolutional(self) -> Trained:
        """Convolutional networks from hard labels: the small student's controls, and teachers."""
        seeds = range(TEACHERS, TEACHERS + self.plan.seeds)
        view = self.lab.views(self.plan.convolutional).as_view(None)
        return self.lab.train("convolutional", self.plan.convolutional, seeds, hard, self.lab.workshop.train, view)

    @cached_property
    def view_targets(self) -> list[Tensor]:
        """What the convolutional networks together say of every numbered view."""
        views, teacher = self.lab.views(self.plan.convolutional), self._teacher(self.convolutional)
        return self.lab.answers("convolutional", teacher, self.lab.workshop.train.inputs, views)

    def _teacher(self, trained: Trained) -> Teacher:
        return teacher_of(self.lab.workshop, Ensemble(trained.networks, "arithmetic"))

    def plain(self) -> Measured:
        """No regularisation but the epoch that validation chooses."""
        return self._errors(self._plain), {}

    @cached_property
    def _plain(self) -> Trained:
        return self.lab.train("plain", self.plan.plain, self.seeds, hard, self.lab.workshop.train)

    def teacher(self) -> Measured:
        """Each of the ten by itself."""
        return self._errors(self.members), {}

    def ensemble(self) -> Measured:
        """One ten, and so one value."""
        errors = self.lab.test_errors([Ensemble(self.members.networks, "arithmetic")])
        return errors, {"members": len(self.members.networks), "note": "one ensemble, and so no spread"}

    def distilled(self) -> Measured:
        """Soft targets alone, no jitter; the paired difference from the plain networks goes with it."""
        trained = self._student("distilled-t20", self.plan.distilled)
        return self._errors(trained), {"paired": self._paired(trained, self._plain)}

    def controls(self) -> Measured:
        """The small student's network and budget, hard labels."""
        return self._errors(self.convolutional), {"parameters": _parameters(self.convolutional)}

    def best_student(self) -> Measured:
        """The same network, taught by its controls together on the views that it sees."""
        trained = self._matching("best-student", self.plan.convolutional)
        return self._errors(trained), {"parameters": _parameters(trained)}

    def blunt(self) -> Measured:
        """784-800-800-10 on the views and the budget of the student with jitter, hard labels."""
        view = self.lab.views(self.plan.matched).as_view(None)
        return self._errors(
            self.lab.train("jitter-control", self.plan.matched, self.seeds, hard, self.lab.workshop.train, view)
        ), {}

    def matched(self) -> Measured:
        """784-800-800-10, taught by the convolutional networks on the views that it sees."""
        return self._errors(self._matching("distilled-jitter", self.plan.matched)), {}

    def _matching(self, title: str, settings: StudentTable) -> Trained:
        view = self.lab.views(settings).as_view(self.view_targets)
        return self.lab.train(title, settings, self.seeds, Distilling(settings), self.lab.workshop.train, view)

    def _student(
        self, title: str, settings: StudentTable, seen: Tensor | None = None, seeds: Sequence[int] | None = None
    ) -> Trained:
        """Students of the ten from the training examples as they are, or from those whose label is in `seen`."""
        shop = self.lab.workshop
        taught, validation = shop.train._replace(log_teacher=self.targets), shop.validation
        if seen is not None:
            taught, validation = (only(part, torch.isin(part.labels, seen)) for part in (taught, validation))
        loss = Distilling(settings)
        return self.lab.train(title, settings, seeds or self.seeds, loss, taught, plain, validation)

    def _errors(self, trained: Trained) -> list[float]:
        return self.lab.test_errors(trained.networks)

    def _paired(self, trained: Trained, against: Trained) -> dict[str, Any]:
        """Errors fewer than the others' on the same test examples, with a 95 % interval over examples."""
        test = self.split.test
        right, other = (self.lab.right(side.networks, test) for side in (trained, against))
        value, low, high = paired(right, other).times(len(test.labels))
        return {"fewer_errors": value, "interval": [low, high]}

    def _temperatures(self) -> list[Figure]:
        """A row for every width and temperature, of one seed each."""
        return [
            Figure(
                f"width_{width}_t_{temperature:g}",
                f"two hidden layers of {width}, T = {temperature:g}",
                None,
                None,
                "validation",
                lambda width=width, temperature=temperature: self._at(width, temperature),  # type: ignore[misc]
            )
            for width in self.plan.widths
            for temperature in self.plan.temperatures
        ]

    def _at(self, width: int, temperature: float) -> Measured:
        settings = self.plan.small.model_copy(update={"hidden": (width, width), "temperature": temperature})
        trained = self._student("temperature", settings, seeds=self.seeds[:1])
        return self._errors(trained), {
            "width": width,
            "temperature": temperature,
            "validation_errors": trained.errors,
        }

    def _omitted(
        self, name: str, title: str, unseen: list[int], paper: float, repaired: float, goal: float
    ) -> list[Figure]:
        """Three rows: as it is, the bias chosen on the test set as the paper did, the known prior matched."""

        def measure(how: str) -> Callable[[], Measured]:
            return lambda: self._without(name, unseen, how)

        return [
            Figure(name, title, paper, None, "validation", measure("as it is")),
            Figure(f"{name}_paper_bias", f"{title}, bias chosen on the test", repaired, None, "test", measure("paper")),
            Figure(f"{name}_prior_bias", f"{title}, prior matched", None, goal, "validation", measure("prior")),
        ]

    def _without(self, name: str, unseen: list[int], how: str) -> Measured:
        """Students whose transfer set lacks classes; the shift moves those the fewer classes are."""
        seen = [k for k in range(len(self.split.classes)) if k not in unseen]
        trained = self._student(name.replace("_", "-"), self.plan.distilled, torch.tensor(seen))
        test, moved = self.split.test, unseen if len(unseen) <= len(seen) else seen
        errors: list[float] = []
        of_unseen: list[int] = []
        shifts: list[Any] = []
        for network in trained.networks:
            logits_NK = self.lab.logits(network, test)
            if how == "paper":
                shifts.append(best_shift(logits_NK, test.labels, moved, SHIFTS))
                logits_NK = shifted(logits_NK, moved, shifts[-1])
            elif how == "prior":
                shifts_K = self._matched_prior(network)
                shifts.append([round(float(shift), 3) for shift in shifts_K])
                logits_NK = logits_NK + shifts_K
            wrong_N = logits_NK.argmax(axis=1) != test.labels
            errors.append(float(wrong_N.sum()))
            of_unseen.append(int(wrong_N[np.isin(test.labels, unseen)].sum()))
        return errors, {"errors_of_unseen_classes": of_unseen, "shifts": shifts}

    def _matched_prior(self, network: nn.Module) -> np.ndarray:
        """From the training inputs, without looking at their labels one by one: only how common each class is."""
        train = self.split.train
        prior_K = np.bincount(train.labels, minlength=len(self.split.classes)) / len(train.labels)
        return prior_shifts(self.lab.logits(network, train), prior_K)


def estimate_s(lab: Lab, plan: Plan) -> float:
    """Seconds that all rows take here, from an epoch over a few examples of each kind of network."""
    bent = Distorting(lab.workshop.split.background)
    kinds: list[tuple[Training, float, View]] = [
        (plan.members, plan.members.members, bent),
        (plan.plain, plan.seeds, plain),
        (plan.distilled, 2.2 * plan.seeds, plain),  # all classes, all but one, two of ten
        (plan.matched, 2 * plan.seeds, bent),
        (plan.convolutional, 3 * plan.seeds, bent),  # controls, students, and about as much for the answers to views
    ]
    for width in plan.widths:
        small = plan.small.model_copy(update={"hidden": (width, width)})
        kinds.append((small, len(plan.temperatures), plain))
    return sum(lab.seconds(settings, view) * settings.epochs * count for settings, count, view in kinds)


def _parameters(trained: Trained) -> int:
    return sum(parameter.numel() for parameter in trained.networks[0].parameters())


def _load(data_dir: Path | None, quick: bool, _display: Display) -> Data:
    split = load_mnist(data_dir, SHARES)
    return Data(fewer(split) if quick else split, split.train.inputs[:0])


def _rows(lab: Lab, quick: bool) -> Rows:
    plan = QUICK if quick else FULL
    return Rows(Mnist(lab, plan).figures(), partial(estimate_s, lab, plan))


MNIST = Experiment("mnist", _load, _rows, write_report)
"""Section 3."""
