"""Percentiles and speed-ups of latencies whose truth is known, because they are drawn and not measured."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from service.comparison.statistics import mean, mean_interval, percentiles, rate, speed_up, t_quantile


def blocks(rng: np.random.Generator, mean_s: float, count: int, *, calls: int = 40) -> list[NDArray[np.float64]]:
    """Latencies of that mean: each block has a mood of its own (sd 2 %), and each call a long tail to the right."""
    moods = rng.normal(1.0, 0.02, count)
    return [mean_s * mood * rng.gamma(4.0, 0.25, calls + int(rng.integers(0, 9))) for mood in moods]


def coverage(ratio: float, count: int, repetitions: int = 400) -> float:
    """The share of drawn comparisons whose interval holds the true ratio."""
    rng = np.random.default_rng(7)
    found = [
        speed_up(blocks(rng, 0.001, count), blocks(rng, 0.001 * ratio, count), seed=repetition).interval
        for repetition in range(repetitions)
    ]
    return float(np.mean([low <= ratio <= high for low, high in found]))


@pytest.mark.parametrize("count", [3, 5, 10, 30])
def test_an_interval_of_a_model_against_itself_holds_1_in_about_95_of_100_comparisons(count: int) -> None:
    assert 0.93 <= coverage(1.0, count) <= 0.995


@pytest.mark.parametrize("ratio", [0.5, 1.05, 40.0])
def test_an_interval_holds_any_true_ratio_in_about_95_of_100_comparisons(ratio: float) -> None:
    assert 0.93 <= coverage(ratio, 10) <= 0.995


def test_a_slowdown_of_5_percent_is_found() -> None:
    """With the default of 10 blocks, of 0.1 ms calls that fill 200 ms, on a machine whose blocks differ by 2 %."""
    rng = np.random.default_rng(11)
    lows = [
        speed_up(blocks(rng, 0.0001, 10, calls=1800), blocks(rng, 0.000105, 10, calls=1800), seed=seed).interval.low
        for seed in range(100)
    ]
    assert np.mean(np.array(lows) > 1.0) >= 0.95


def test_calls_of_one_block_do_not_count_as_independent() -> None:
    """More calls in the same blocks do not narrow an interval below what the blocks' own differences allow."""
    rng = np.random.default_rng(3)
    low, high = speed_up(blocks(rng, 0.001, 10, calls=5000), blocks(rng, 0.001, 10, calls=5000), seed=0).interval
    assert high - low > 0.02


def test_one_disturbed_block_widens_an_interval_and_does_not_explode_it() -> None:
    rng = np.random.default_rng(5)
    calm, disturbed = blocks(rng, 0.001, 10), blocks(rng, 0.001, 10)
    disturbed[4] = disturbed[4] * 3
    low, high = speed_up(calm, disturbed, seed=0).interval
    assert low < 1.05
    assert 1.2 < high < 2.0


def test_a_speed_up_is_the_other_ones_mean_latency_over_its_own() -> None:
    a, b = [np.array([1.0, 3.0]), np.array([2.0])], [np.array([5.0]), np.array([5.0, 8.0])]
    assert mean(a) == 2.0
    assert speed_up(a, b, seed=0).value == 3.0


def test_constant_latencies_have_an_interval_without_width() -> None:
    two, six = [np.full(5, 2.0)] * 3, [np.full(7, 6.0)] * 3
    value, (low, high) = speed_up(two, six, seed=0)
    assert value == pytest.approx(3.0)
    assert (low, high) == (pytest.approx(3.0), pytest.approx(3.0))


def test_a_speed_up_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    rng = np.random.default_rng(2)
    a, b = blocks(rng, 0.001, 10), blocks(rng, 0.002, 10)
    assert speed_up(a, b, seed=1) == speed_up(a, b, seed=1)
    assert speed_up(a, b, seed=1).interval != speed_up(a, b, seed=2).interval


def test_swapping_the_two_models_inverts_the_speed_up_and_about_inverts_its_interval() -> None:
    rng = np.random.default_rng(2)
    a, b = blocks(rng, 0.001, 10), blocks(rng, 0.002, 10)
    forward, back = speed_up(a, b, seed=0), speed_up(b, a, seed=0)
    assert forward.value * back.value == pytest.approx(1.0)
    assert forward.interval.low * back.interval.high == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("freedom", [2, 3, 4, 9, 29, 99])
def test_the_t_quantile_is_scipys_within_1_percent(freedom: int) -> None:
    assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=0.01)


@pytest.mark.parametrize(
    ("samples", "known"),
    [
        (2, "p50"),
        (63, "p50"),
        (64, "p50 p90"),
        (661, "p50 p90"),
        (662, "p50 p90 p99"),
        (6635, "p50 p90 p99"),
        (6636, "p50 p90 p99 p99_9"),
    ],
)
def test_a_percentile_is_given_from_as_many_samples_as_it_needs(samples: int, known: str) -> None:
    """p50 always, p90 from 64 samples, p99 from 662, p99.9 from 6,636."""
    found = percentiles(np.array_split(np.linspace(0.1, 1.0, samples), 2), seed=0)
    assert " ".join(name for name, value in found.items() if value is not None) == known


def test_percentiles_are_interpolated() -> None:
    found = percentiles(np.array_split((1 + np.arange(6637)) / 1000, 3), seed=0)
    values = [one.value for one in found.values() if one is not None]
    assert values == pytest.approx(np.percentile((1 + np.arange(6637)) / 1000, [50, 90, 99, 99.9]))


@pytest.mark.parametrize(("name", "share"), [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)])
def test_an_interval_of_a_percentile_holds_it_in_about_95_of_100_measurements(name: str, share: float) -> None:
    """Of gamma distributed calls in blocks that have moods: what a p99 would be over very many blocks is known."""
    rng = np.random.default_rng(5)
    truth = np.quantile(np.concatenate(blocks(rng, 0.001, 4000, calls=100)), share)
    ends = [percentiles(blocks(rng, 0.001, 10, calls=100), seed=seed)[name] for seed in range(200)]
    held = [end is not None and end.interval.low <= truth <= end.interval.high for end in ends]
    assert 0.9 <= np.mean(held) <= 1.0


def test_an_interval_of_a_mean_is_that_of_scipys_bootstrap_widened() -> None:
    """With calls of equal numbers in each block a resample's mean is the mean of the blocks' means."""
    rng = np.random.default_rng(2)
    parts = [rng.gamma(4.0, 0.25, 50) for _ in range(20)]
    means = np.array([part.mean() for part in parts])
    plain = stats.bootstrap((means,), np.mean, method="percentile", n_resamples=20_000, rng=rng).confidence_interval
    low, high = mean_interval(parts, seed=1)
    wider = np.sqrt(20 / 19) * stats.t.ppf(0.975, 19) / stats.norm.ppf(0.975)
    middle = np.log(means.mean())
    assert np.log([low, high]) == pytest.approx(middle + wider * (np.log(plain) - middle), abs=0.01)


def test_throughput_is_rows_over_seconds_and_its_interval_is_turned_around() -> None:
    found = rate([np.full(10, 0.5), np.full(10, 0.25)], 8, seed=0)
    assert found.value == pytest.approx(8 / 0.375)
    assert 8 / 0.5 > found.interval.low > 0
    assert found.interval.high > 8 / 0.25
