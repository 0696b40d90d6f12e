"""From latencies to percentiles and to ratios with intervals. It knows arrays of seconds, not models or clocks.

Latencies come in blocks: each an array of float64 seconds, one number a call. Calls of one block share what the
machine was doing at that moment, so it is blocks that count as independent, not calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.measures import Z_95, Estimate, Interval

Seconds = NDArray[np.float64]
Blocks = Sequence[Seconds]

RESAMPLES = 2000
FEWEST_FOR_P90 = 64
FEWEST_FOR_P99 = 662


class Percentiles(NamedTuple):
    """Percentiles of latency in seconds; None where there are too few samples to tell."""

    p50: float
    p90: float | None
    p99: float | None


def percentiles(samples_s: Seconds) -> Percentiles:
    """p50, p90 and p99 of at least one sample, interpolated linearly.

    p90 needs 64 samples and p99 needs 662, as in MLPerf Inference's rule for early stopping.
    """
    p50, p90, p99 = (float(value) for value in np.percentile(samples_s, (50, 90, 99)))
    return Percentiles(
        p50,
        p90 if len(samples_s) >= FEWEST_FOR_P90 else None,
        p99 if len(samples_s) >= FEWEST_FOR_P99 else None,
    )


def mean(blocks: Blocks) -> float:
    """Mean latency in seconds of one call, over the calls of all blocks."""
    return float(np.concatenate(blocks).mean())


def speed_up(a: Blocks, b: Blocks, seed: int) -> Estimate:
    """How many times as fast a is as b: mean latency of b / mean latency of a. Above 1, a is the faster.

    The 95 % interval is a block bootstrap: the blocks of each model are drawn with replacement 2,000 times. With few
    blocks such intervals are too narrow (10 blocks cover 92 %, 3 cover 77 %), so the spread of the log ratio is
    widened by sqrt(n / (n - 1)) * t(n - 1) / z, after the expanded percentile interval of Hesterberg (2015). The
    studentised bootstrap covers as well, but a single disturbed block makes it explode.
    """
    rng = np.random.default_rng(seed)
    logs = np.log(_resampled_means(b, rng)) - np.log(_resampled_means(a, rng))
    value = mean(b) / mean(a)
    fewest = min(len(a), len(b))
    widening = np.sqrt(fewest / (fewest - 1)) * t_quantile(fewest - 1) / Z_95
    low, high = value * np.exp(widening * (np.quantile(logs, (0.025, 0.975)) - np.log(value)))
    return Estimate(value, Interval(float(low), float(high)))


def _resampled_means(blocks: Blocks, rng: np.random.Generator) -> Seconds:
    """The mean latency of each resample, [RESAMPLES]."""
    totals_s = np.array([block.sum() for block in blocks])
    calls = np.array([len(block) for block in blocks])
    drawn = rng.integers(0, len(blocks), (RESAMPLES, len(blocks)))
    result: Seconds = totals_s[drawn].sum(axis=1) / calls[drawn].sum(axis=1)
    return result


def t_quantile(freedom: int) -> float:
    """The 97.5 % quantile of Student's t, within 1 % from 2 degrees of freedom (Abramowitz and Stegun, 26.7.5)."""
    z = Z_95
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return float(sum(term / freedom**power for power, term in enumerate(terms)))
