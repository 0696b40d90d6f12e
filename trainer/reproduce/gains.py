"""What specialists gain, as the paper's section 5 counts it: within their classes, and by how many cover a class.

It knows predictions, labels and groups, not networks. Legend: N examples, K classes, R seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.groups import Group


class Cover(NamedTuple):
    """Of examples whose class so many specialists cover: how many there are, and % accuracy without and with them."""

    specialists: int
    examples: int
    generalist: float
    combined: float

    @property
    def relative_gain(self) -> float | None:
        """In %; None where the generalist has none of them right."""
        return relative_gain(self.combined, self.generalist) if self.generalist else None


def relative_gain(accuracy: float, before: float) -> float:
    """In % of what it was before."""
    return 100.0 * (accuracy - before) / before


def conditional_accuracy(log_q_NK: NDArray[np.floating], labels_N: NDArray[np.int64], groups: Sequence[Group]) -> float:
    """% right among the examples of each specialist's classes, when only those classes may be answered (Table 3).

    All specialists' examples are counted together; NaN where there are none.
    """
    right = total = 0
    for group in groups:
        own_N = np.isin(labels_N, group)
        answers = np.array(group)[log_q_NK[own_N][:, list(group)].argmax(axis=1)]
        right += int((answers == labels_N[own_N]).sum())
        total += int(own_N.sum())
    return 100.0 * right / total if total else float("nan")


def by_cover(
    generalist_N: NDArray[np.bool_], combined_N: NDArray[np.bool_], labels_N: NDArray[np.int64], groups: Sequence[Group]
) -> list[Cover]:
    """From who was right where: a Cover for each number of specialists that some example's class has (Table 4)."""
    covered_N = sum((np.isin(labels_N, group).astype(np.int64) for group in groups), np.zeros_like(labels_N))
    found = []
    for number in np.unique(covered_N).tolist():
        these = covered_N == number
        shares = (100.0 * float(right_N[these].mean()) for right_N in (generalist_N, combined_N))
        found.append(Cover(number, int(these.sum()), *shares))
    return found
