"""Measures of a classifier and of a pair of classifiers, in numpy. It knows arrays, not models or files.

Legend: N examples, K classes. Labels are int [N]; log-probabilities are float [N, K]. Intervals are of 95 %.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.integer]
Floats = NDArray[np.floating]

Z_95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""
FLOOR = math.log(1e-30)
"""Log-probabilities are clamped here: softening one of minus infinity would give NaN."""


class Interval(NamedTuple):
    """A 95 % interval."""

    low: float
    high: float


class Estimate(NamedTuple):
    """A value and its 95 % interval."""

    value: float
    interval: Interval


def log_softmax(logits_NK: Floats, temperature: float = 1.0) -> NDArray[np.float64]:
    """log softmax(logits / temperature) over the last axis, in float64 (section 2, equation 1)."""
    scaled = np.asarray(logits_NK, dtype=np.float64) / temperature
    shifted = scaled - scaled.max(axis=-1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def errors(predicted_N: Labels, labels_N: Labels) -> int:
    """How many predictions are wrong."""
    return int(np.count_nonzero(predicted_N != labels_N))


def accuracy(predicted_N: Labels, labels_N: Labels) -> Estimate:
    """The share of right predictions with its Wilson score interval (Wilson 1927)."""
    total = _some(len(labels_N))
    right = total - errors(predicted_N, labels_N)
    return Estimate(right / total, wilson(right, total))


def wilson(successes: int, total: int) -> Interval:
    """The Wilson score interval of a proportion; it stays inside [0, 1] and never has width 0. Of none it begins at 0
    and of all it ends at 1, exactly: there the two terms are the same number, and rounding would leave a difference."""
    share, z2 = successes / _some(total), Z_95 * Z_95
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = Z_95 / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total * total))
    return Interval(
        0.0 if successes == 0 else max(0.0, centre - half), 1.0 if successes == total else min(1.0, centre + half)
    )


def nll(log_p_NK: Floats, labels_N: Labels) -> float:
    """Mean negative log-likelihood of the labels, in nats."""
    _some(len(labels_N))
    return float(-log_p_NK[np.arange(len(labels_N)), labels_N].mean()) + 0.0


def ece(log_p_NK: Floats, labels_N: Labels, bins: int = 15) -> float:
    """Expected calibration error: |accuracy - confidence| over equal-width bins of confidence, weighted by their
    share of the examples (Guo et al. 2017, equation 3)."""
    total = _some(len(labels_N))
    groups = reliability(log_p_NK, labels_N, bins)
    return sum(abs(group.accuracy - group.confidence) * group.examples / total for group in groups)


def brier(log_p_NK: Floats, labels_N: Labels) -> float:
    """Mean squared distance of the distribution from the right answer, summed over classes: 0 to 2 (Brier 1950)."""
    _some(len(labels_N))
    distance_NK = np.exp(log_p_NK)
    distance_NK[np.arange(len(labels_N)), labels_N] -= 1.0
    return float((distance_NK**2).sum(axis=1).mean())


def kl(log_p_NK: Floats, log_q_NK: Floats) -> float:
    """Mean Kullback-Leibler divergence KL(p || q) in nats: how far q is from p, which is the truth or the teacher."""
    _some(len(log_p_NK))
    return max(0.0, float((np.exp(log_p_NK) * (log_p_NK - log_q_NK)).sum(axis=1).mean()))


def confusion(predicted_N: Labels, labels_N: Labels, classes: int) -> NDArray[np.int64]:
    """Examples by label (row) and prediction (column), [K, K]."""
    cells = np.bincount(labels_N * classes + predicted_N, minlength=classes * classes)
    result: NDArray[np.int64] = cells.reshape(classes, classes)
    return result


class Bin(NamedTuple):
    """Examples whose confidence lies in (low, high]: how many, their mean confidence, their accuracy."""

    examples: int
    confidence: float
    accuracy: float
    low: float
    high: float


def reliability(log_p_NK: Floats, labels_N: Labels, bins: int = 15) -> list[Bin]:
    """The bins of a reliability diagram that hold any example: bin i is (i / bins, (i + 1) / bins]."""
    confidence_N = np.exp(log_p_NK.max(axis=1))
    right_N = log_p_NK.argmax(axis=1) == labels_N
    bin_N = np.clip(np.ceil(confidence_N * bins).astype(int) - 1, 0, bins - 1)
    groups = ((index, bin_N == index) for index in range(bins))
    return [
        Bin(
            int(group.sum()),
            float(confidence_N[group].mean()),
            float(right_N[group].mean()),
            index / bins,
            (index + 1) / bins,
        )
        for index, group in groups
        if group.any()
    ]


def agreement(first_N: Labels, second_N: Labels) -> float:
    """The share of examples that two models give the same label (fidelity, Stanton et al. 2021)."""
    _some(len(first_N))
    return float(np.mean(first_N == second_N))


class TwoByTwo(NamedTuple):
    """How many examples two models get right: both, the first alone, the second alone, neither."""

    both: int
    only_first: int
    only_second: int
    neither: int


def two_by_two(first_N: Labels, second_N: Labels, labels_N: Labels) -> TwoByTwo:
    """The paired table of two models' predictions."""
    first, second = first_N == labels_N, second_N == labels_N
    parts = (first & second, first & ~second, ~first & second, ~first & ~second)
    return TwoByTwo(*(int(part.sum()) for part in parts))


def mcnemar(only_first: int, only_second: int) -> float:
    """p of the exact two-sided McNemar test: a fair coin for each discordant example (McNemar 1947)."""
    discordant, fewer = only_first + only_second, min(only_first, only_second)
    ways, term = 0, 1
    for successes in range(fewer + 1):
        ways += term
        term = term * (discordant - successes) // (successes + 1)
    return float(min(1.0, 2 * ways / 2**discordant))


def accuracy_difference(first_N: Labels, second_N: Labels, labels_N: Labels) -> Estimate:
    """accuracy(first) - accuracy(second) on the same examples, with the paired interval of Bonett and Price (2012).

    Only the discordant examples count: b where the first alone is right, c where the second alone is. The value is
    (b - c) / N; the interval adds one to each of b and c, so that it keeps its coverage in small samples.
    """
    total = _some(len(labels_N))
    _, b, c, _ = two_by_two(first_N, second_N, labels_N)
    adjusted_b, adjusted_c = (b + 1) / (total + 2), (c + 1) / (total + 2)
    centre = adjusted_b - adjusted_c
    half = Z_95 * math.sqrt((adjusted_b + adjusted_c - centre * centre) / (total + 2))
    return Estimate((b - c) / total, Interval(max(-1.0, centre - half), min(1.0, centre + half)))


def _some(total: int) -> int:
    if total < 1:
        raise ValueError("no examples: a measure needs at least one")
    return total
