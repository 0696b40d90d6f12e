"""From latencies to percentiles and to ratios with intervals. It knows arrays of seconds, not models or clocks.

Latencies come in blocks: each an array of float64 seconds, one number a call. Calls of one block share what the
machine was doing at that moment, so it is blocks that count as independent, not calls. Block i of one model was
measured beside block i of the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from service.measures import Z_95, Estimate, Interval

Seconds = NDArray[np.float64]
Blocks = Sequence[Seconds]

RESAMPLES = 2000
PERCENTILE_RESAMPLES = 400
"""Enough for the ends of an interval of a percentile, which is dear to resample."""
FEWEST: Mapping[str, int] = {"p50": 1, "p90": 64, "p99": 662, "p99_9": 6636}
"""Samples from which on a percentile is told: MLPerf Inference's rule for early stopping, at 99 % confidence."""
SHARES: Mapping[str, float] = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99_9": 0.999}


def percentiles(blocks: Blocks, seed: int) -> dict[str, Estimate | None]:
    """p50, p90, p99 and p99_9 in seconds, interpolated linearly, with the intervals of a block bootstrap.

    None where there are too few samples to tell: p90 needs 64, p99 662 and p99.9 6,636.
    """
    samples_s = np.concatenate(blocks)
    known = [name for name, fewest in FEWEST.items() if len(samples_s) >= fewest]
    values = np.percentile(samples_s, [100 * SHARES[name] for name in known])
    ends = _percentile_intervals(blocks, [SHARES[name] for name in known], values, seed)
    found = {name: Estimate(float(v), end) for name, v, end in zip(known, values, ends, strict=True)}
    return {name: found.get(name) for name in FEWEST}


def _percentile_intervals(blocks: Blocks, shares: Sequence[float], values: Seconds, seed: int) -> list[Interval]:
    """Blocks are drawn with replacement; a resample's percentile is read off the cumulated weights of its blocks."""
    samples_s = np.concatenate(blocks)
    order = np.argsort(samples_s)
    sorted_s, block_of = samples_s[order], np.repeat(np.arange(len(blocks)), [len(b) for b in blocks])[order]
    drawn = np.random.default_rng(seed).integers(0, len(blocks), (PERCENTILE_RESAMPLES, len(blocks)))
    found = np.empty((PERCENTILE_RESAMPLES, len(shares)))
    for at, picked in enumerate(drawn):
        weights = np.cumsum(np.bincount(picked, minlength=len(blocks))[block_of])
        found[at] = sorted_s[np.searchsorted(weights, np.array(shares) * weights[-1])]
    return [_widened(np.log(found[:, k]), float(value), len(blocks)) for k, value in enumerate(values)]


def mean(blocks: Blocks) -> float:
    """Mean latency in seconds of one call, over the calls of all blocks."""
    return float(np.concatenate(blocks).mean())


def mean_interval(blocks: Blocks, seed: int) -> Interval:
    """Of the mean latency in seconds."""
    return _widened(np.log(_resampled_means(blocks, _drawn(len(blocks), seed))), mean(blocks), len(blocks))


def rate(blocks: Blocks, rows: int, seed: int) -> Estimate:
    """Rows per second where each call has so many rows."""
    low, high = mean_interval(blocks, seed)
    return Estimate(rows / mean(blocks), Interval(rows / high, rows / low))


def speed_up(a: Blocks, b: Blocks, seed: int) -> Estimate:
    """How many times as fast a is as b: mean latency of b / mean latency of a. Above 1, a is the faster.

    The 95 % interval is a block bootstrap: rounds, each a block of both, are drawn with replacement 2,000 times, so
    that what slowed both of them at a time cancels. With few blocks such intervals are too narrow (10 blocks cover
    92 %, 3 cover 77 %), so they are widened, see `_widened`. The studentised bootstrap covers as well, but a single
    disturbed block makes it explode.
    """
    fewest = min(len(a), len(b))
    drawn = _drawn(fewest, seed)
    logs = np.log(_resampled_means(b[:fewest], drawn)) - np.log(_resampled_means(a[:fewest], drawn))
    value = mean(b) / mean(a)
    return Estimate(value, _widened(logs, value, fewest))


def _drawn(blocks: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, blocks, (RESAMPLES, blocks))


def _resampled_means(blocks: Blocks, drawn: NDArray[np.int64]) -> Seconds:
    """The mean latency of each resample, [RESAMPLES]."""
    totals_s = np.array([block.sum() for block in blocks])
    calls = np.array([len(block) for block in blocks])
    result: Seconds = totals_s[drawn].sum(axis=1) / calls[drawn].sum(axis=1)
    return result


def _widened(logs: Seconds, value: float, blocks: int) -> Interval:
    """The interval around a value whose logarithm was resampled from so many blocks.

    The spread of the logarithm is widened by sqrt(n / (n - 1)) * t(n - 1) / z, after the expanded percentile interval
    of Hesterberg (2015). There are at least two blocks.
    """
    widening = math.sqrt(blocks / (blocks - 1)) * t_quantile(blocks - 1) / Z_95
    low, high = value * np.exp(widening * (np.quantile(logs, (0.025, 0.975)) - math.log(value)))
    return Interval(min(value, float(low)), max(value, float(high)))


def t_quantile(freedom: int) -> float:
    """The 97.5 % quantile of Student's t, within 1 % from 2 degrees of freedom (Abramowitz and Stegun, 26.7.5)."""
    if freedom == 1:  # the series is of no use here; t(1) is the Cauchy distribution
        return 1 / math.tan(0.025 * math.pi)
    z = Z_95
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return float(sum(term / freedom**power for power, term in enumerate(terms)))
