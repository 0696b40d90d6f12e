"""Which rows a student leaves to its ensemble: the temperature of its confidence, and the threshold below it.

It knows the answers of both to N labelled examples, not models, files or how a row is passed on.
Legend: N examples, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.table import Table
from scipy.optimize import minimize_scalar

from service import measures
from trainer.errors import TrainerError

Labels = NDArray[np.int64]
LARGEST_TEMPERATURE = 20.0
SHOWN = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Shares deferred that the table shows beside the chosen one."""
COLUMNS = ("threshold", "deferred", "cascade", "student", "ensemble", "below", "cost", "ms")


class Cut(NamedTuple):
    """With this threshold so many of the examples are deferred, and the cascade is right on so many."""

    threshold: float
    deferred: int
    right: int


class Costs(NamedTuple):
    """Of a row: multiply-accumulates, and ms on one CPU thread where they are known."""

    multiply_accumulates: int
    cpu_ms: float | None


class Choice(NamedTuple):
    """The chosen cut, and all of them; on how many of the examples student and ensemble are right."""

    cut: Cut
    cuts: Sequence[Cut]
    examples: int
    student: int
    ensemble: int


def fit_temperature(logits_NK: NDArray[np.floating], labels_N: Labels) -> float:
    """The T from 1/20 to 20 with the smallest mean NLL of softmax(logits / T) (Guo et al. 2017).

    The NLL is convex in 1/T, so it has one minimum in log T; where a student makes no error it is at the lower end.
    """
    end = math.log(LARGEST_TEMPERATURE)

    def nll(log_temperature: float) -> float:
        return measures.nll(measures.log_softmax(logits_NK, math.exp(log_temperature)), labels_N)

    found = minimize_scalar(nll, bounds=(-end, end), method="bounded", options={"xatol": 1e-5})
    return math.exp(float(found.x))


def choose(
    confidence_N: NDArray[np.float64],
    student_N: NDArray[np.bool_],
    ensemble_N: NDArray[np.bool_],
    max_loss: float,
) -> Choice:
    """The smallest share deferred at which the cascade is at most `max_loss` points less accurate than the ensemble.

    `student_N` and `ensemble_N` say who is right where. The value decides and not its interval. Raises TrainerError.
    """
    cuts, ensemble, examples = all_cuts(confidence_N, student_N, ensemble_N), int(ensemble_N.sum()), len(ensemble_N)
    allowed = max_loss * examples / 100 + 1e-9  # 0.1 points are 0.1 points after rounding, too
    for cut in cuts:
        if ensemble - cut.right <= allowed:
            return Choice(cut, cuts, examples, int(student_N.sum()), ensemble)
    nearest = max(cuts, key=lambda cut: cut.right)
    raise TrainerError(
        f"no threshold keeps within {max_loss:g} points of the ensemble's {ensemble / examples:.2%}: the student is "
        f"wholly sure of {examples - cuts[-1].deferred} of {examples} validation examples, and the best cascade "
        f"reaches {nearest.right / examples:.2%}"
    )


def all_cuts(
    confidence_N: NDArray[np.float64], student_N: NDArray[np.bool_], ensemble_N: NDArray[np.bool_]
) -> list[Cut]:
    """Each way to part the examples by a threshold of 0 to 1, by the number deferred; equals stay together.

    A threshold lies halfway between two confidences, so that another batch's rounding does not move a row across.
    """
    order = np.argsort(confidence_N, kind="stable")
    sorted_N = confidence_N[order]
    gains_N = (ensemble_N[order].astype(int) - student_N[order].astype(int)).cumsum()
    right = int(student_N.sum())
    cuts = [Cut(0.0, 0, right)]
    bounds = [*sorted_N[1:].tolist(), 1.0]
    for count, (low, high) in enumerate(zip(sorted_N.tolist(), bounds, strict=True), start=1):
        if low < high:
            middle = 1.0 if count == len(order) else (low + high) / 2
            cuts.append(Cut(middle if middle > low else high, count, right + int(gains_N[count - 1])))
    return cuts


def table(choice: Choice, student: Costs, ensemble: Costs) -> Table:
    """The chosen cut among others, for the terminal."""
    shown = Table(*COLUMNS, box=SIMPLE_HEAD, padding=0, show_edge=False)
    for column in shown.columns:
        column.justify, column.no_wrap = "right", True
    for cut in _ladder(choice):
        shown.add_row(*cells(cut, choice, student, ensemble), style="bold" if cut == choice.cut else None)
    return shown


def cells(cut: Cut, choice: Choice, student: Costs, ensemble: Costs) -> tuple[str, ...]:
    """A line of the table, in the order of COLUMNS; `cost` is of the ensemble's multiply-accumulates."""
    share = cut.deferred / choice.examples
    cost = student.multiply_accumulates / ensemble.multiply_accumulates + share
    one_ms, other_ms = student.cpu_ms, ensemble.cpu_ms
    return (
        f"{'* ' if cut == choice.cut else ''}{cut.threshold:.4f}",
        f"{share:.1%}",
        *(f"{right / choice.examples:.2%}" for right in (cut.right, choice.student, choice.ensemble)),
        f"{100 * (choice.ensemble - cut.right) / choice.examples:.2f}",
        f"{cost:.1%}",
        "" if one_ms is None or other_ms is None else f"{one_ms + share * other_ms:.4f}",
    )


def _ladder(choice: Choice) -> list[Cut]:
    """For each share that is shown the first cut that defers as many, and the chosen one."""
    steps = [next((cut for cut in choice.cuts if cut.deferred >= share * choice.examples), None) for share in SHOWN]
    return sorted({cut for cut in (*steps, choice.cut) if cut is not None}, key=lambda cut: cut.deferred)
