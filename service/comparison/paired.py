"""How two models relate on the same examples: the 2x2 table, McNemar, the verdict, divergence, where they differ.

It knows their log-probabilities, not how they were asked. Legend: N examples, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from service import measures
from service.comparison.quality import LARGEST_MATRIX, Labels, LogP
from service.comparison.schema.part import Estimate
from service.comparison.schema.quality import Disagreement, McNemar, PairOnClass, TwoByTwo, Verdict

FEWEST_DISAGREEMENTS, MOST_DISAGREEMENTS = 6, 60
MOST_NUMBERS = 3000
"""Of each model's probabilities: with many classes fewer disagreements are shown."""


def table(log_p_a_NK: LogP, log_p_b_NK: LogP, labels_N: Labels) -> TwoByTwo:
    """How many examples both, one or none get right."""
    found = measures.two_by_two(log_p_a_NK.argmax(axis=1), log_p_b_NK.argmax(axis=1), labels_N)
    return TwoByTwo(both_right=found.both, only_a=found.only_first, only_b=found.only_second, neither=found.neither)


def mcnemar(counts: TwoByTwo) -> McNemar:
    """The exact test on the discordant examples."""
    return McNemar(discordant=counts.only_a + counts.only_b, p=measures.mcnemar(counts.only_a, counts.only_b))


def difference(log_p_a_NK: LogP, log_p_b_NK: LogP, labels_N: Labels) -> Estimate:
    """accuracy(a) - accuracy(b), paired."""
    found = measures.accuracy_difference(log_p_a_NK.argmax(axis=1), log_p_b_NK.argmax(axis=1), labels_N)
    return Estimate(value=found.value, interval=found.interval)


def verdict(found: Estimate, margin: float, a: str, b: str) -> Verdict:
    """Whether a is at most `margin` percentage points less accurate than b, as far as the interval decides."""
    low, high = (100 * end for end in found.interval)
    result: Literal["shown", "not shown", "refuted"]
    if low > -margin:
        result = "shown"
    elif high < -margin:
        result = "refuted"
    else:
        result = "not shown"
    points = "point" if margin == 1 else "points"
    return Verdict(
        margin=margin,
        result=result,
        text=f"{a} is at most {margin:g} {points} less accurate than {b}: {result} "
        f"(difference {100 * found.value:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f})",
    )


def per_class(log_p_a_NK: LogP, log_p_b_NK: LogP, labels_N: Labels, classes: Sequence[str]) -> list[PairOnClass]:
    """The pair on the examples of each class, in the order of the classes; of many classes those on which the two
    differ most."""
    shown: Sequence[int] = range(len(classes))
    if len(classes) > LARGEST_MATRIX:
        differ_N = log_p_a_NK.argmax(axis=1) != log_p_b_NK.argmax(axis=1)
        counts = np.bincount(labels_N[differ_N], minlength=len(classes))
        shown = sorted(np.argsort(-counts, kind="stable")[:LARGEST_MATRIX].tolist())
    return [
        _on_class(log_p_a_NK[labels_N == k], log_p_b_NK[labels_N == k], labels_N[labels_N == k], classes[k])
        for k in shown
    ]


def _on_class(log_p_a_NK: LogP, log_p_b_NK: LogP, labels_N: Labels, label: str) -> PairOnClass:
    some = len(labels_N) > 0
    return PairOnClass(
        label=label,
        examples=len(labels_N),
        agreement=agreement(log_p_a_NK, log_p_b_NK) if some else None,
        kl=measures.kl(log_p_b_NK, log_p_a_NK) if some else None,
        table=table(log_p_a_NK, log_p_b_NK, labels_N),
        accuracy_difference=difference(log_p_a_NK, log_p_b_NK, labels_N) if some else None,
    )


def agreement(log_p_a_NK: LogP, log_p_b_NK: LogP) -> float:
    """The share of examples that both give the same label."""
    return measures.agreement(log_p_a_NK.argmax(axis=1), log_p_b_NK.argmax(axis=1))


def disagreements(
    log_p_a_NK: LogP,
    log_p_b_NK: LogP,
    labels_N: Labels | None,
    classes: Sequence[str],
    picture: Callable[[int], str | None],
) -> tuple[int, list[Disagreement]]:
    """How many examples get two labels, and the first of them; `picture` gives the data: URL of an example."""
    where = np.flatnonzero(log_p_a_NK.argmax(axis=1) != log_p_b_NK.argmax(axis=1))
    most = max(FEWEST_DISAGREEMENTS, min(MOST_DISAGREEMENTS, MOST_NUMBERS // len(classes)))
    shown = [
        Disagreement(
            index=int(index),
            label=None if labels_N is None else classes[labels_N[index]],
            a=_rounded(log_p_a_NK[index]),
            b=_rounded(log_p_b_NK[index]),
            image=picture(int(index)),
        )
        for index in where[:most]
    ]
    return len(where), shown


def _rounded(log_p_K: LogP) -> list[float]:
    """To eight significant digits, as float32 has no more."""
    return [float(f"{min(1.0, value):.8g}") for value in np.exp(log_p_K)]
