"""Percentiles and speed-ups of latencies whose truth is known, because they are drawn and not measured."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from service.comparison.statistics import mean, percentiles, speed_up, t_quantile


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
    [(1, "p50"), (63, "p50"), (64, "p50 p90"), (661, "p50 p90"), (662, "p50 p90 p99")],
)
def test_a_percentile_is_given_from_as_many_samples_as_it_needs(samples: int, known: str) -> None:
    """p50 always, p90 from 64 samples, p99 from 662."""
    found = percentiles(np.linspace(0.0, 1.0, samples))._asdict()
    assert " ".join(name for name, value in found.items() if value is not None) == known


def test_percentiles_are_interpolated() -> None:
    assert percentiles(np.arange(1001) / 1000) == pytest.approx((0.5, 0.9, 0.99))
    assert percentiles(np.array([1.0, 2.0])).p50 == 1.5
