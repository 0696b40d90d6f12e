"""Whether a queue grows, on queues whose truth is known, because they are drawn and not measured."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from service.comparison.arrivals import kept_up, pace, poisson

Floats = NDArray[np.float64]


def queue(load: float, rng: np.random.Generator, *, arrivals: int = 2000, hiccup: float = 0.0) -> tuple[Floats, Floats]:
    """M/D/1: Poisson arrivals in a second, and the latency of each where an answer takes load / arrivals. In the middle
    of the last third nothing is answered for `hiccup` seconds."""
    arrivals_s, each_s = poisson(arrivals, 1.0, rng), load / arrivals
    free_s, done_s = 0.0, np.empty(len(arrivals_s))
    for at, due_s in enumerate(arrivals_s):
        started_s = max(free_s, due_s)
        if started_s < 0.83 <= started_s + each_s:
            started_s += hiccup
        free_s = done_s[at] = started_s + each_s
    return arrivals_s, done_s - arrivals_s


def found(load: float, seed: int, **more: float) -> list[float]:
    """The pace of five blocks."""
    rng = np.random.default_rng(seed)
    return [pace(*queue(load, rng, **more)) for _ in range(5)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("load", "arrivals"), [(0.1, 100), (0.5, 100), (0.8, 100), (0.5, 2000), (0.9, 2000), (0.95, 2000)]
)
def test_a_queue_below_capacity_is_kept_up_with(load: float, arrivals: int) -> None:
    assert np.mean([kept_up(found(load, seed, arrivals=arrivals)) for seed in range(20)]) >= 0.95


@pytest.mark.parametrize("load", [1.2, 1.5, 2.0, 5.0])
@pytest.mark.parametrize("arrivals", [100, 2000])
def test_a_queue_above_capacity_is_not(load: float, arrivals: int) -> None:
    assert np.mean([not kept_up(found(load, seed, arrivals=arrivals)) for seed in range(20)]) >= 0.95


@pytest.mark.parametrize("load", [1.1, 1.5, 3.0])
def test_the_pace_is_the_capacity_over_the_rate_of_arrivals(load: float) -> None:
    assert np.median(found(load, 0, arrivals=5000)) == pytest.approx(1 / load, rel=0.05)


@pytest.mark.parametrize("load", [0.3, 0.6])
def test_a_few_slow_answers_are_no_growing_queue_and_many_more_than_fit_are(load: float) -> None:
    """Eight arrivals in a block, each of which takes a good part of it."""
    assert np.mean([kept_up(found(load, seed, arrivals=8)) for seed in range(40)]) >= 0.95
    assert np.mean([not kept_up(found(4.0, seed, arrivals=8)) for seed in range(40)]) >= 0.95


EVEN_S = np.linspace(0.0, 1.0, 900)


@pytest.mark.parametrize(("power", "height"), [(1.0, 0.2), (0.5, 0.3), (0.3, 0.6), (2.0, 0.2)])
def test_latencies_that_grow_evenly_or_less_and_less_are_of_a_growing_queue(power: float, height: float) -> None:
    assert not kept_up([pace(EVEN_S, 0.001 + height * EVEN_S**power)])


def test_the_medians_of_an_overloaded_service_are_seen_as_such() -> None:
    """By tenth of a block of 278 ms, as a service had them that was asked 18,000 times a second."""
    medians_s = np.repeat([0.040, 0.057, 0.068, 0.094, 0.118, 0.131, 0.141, 0.153, 0.161, 0.170], 500)
    assert not kept_up([pace(np.linspace(0.0, 0.278, 5000), medians_s)])


def test_high_latencies_that_do_not_grow_are_kept_up_with() -> None:
    """A long way there and back, a queue that has found its level, answers that get quicker."""
    rng = np.random.default_rng(0)
    level = np.minimum(EVEN_S / 0.2, 1.0) * 0.3
    for latencies_s in (np.full(900, 0.4), rng.gamma(1.0, 0.2, 900) + 0.05, level, 0.4 - 0.3 * EVEN_S):
        assert pace(EVEN_S, latencies_s) == pytest.approx(1.0, abs=0.02)


def test_a_single_hiccup_is_no_growing_queue() -> None:
    """In a block, which has a while to recover; nor at the very end of one block of five."""
    rng = np.random.default_rng(0)
    arrivals_s, latencies_s = queue(0.5, rng, hiccup=0.05)
    assert latencies_s.max() > 0.05
    assert pace(arrivals_s, latencies_s) > 0.99
    latencies_s = np.where(EVEN_S > 0.6, 0.3, 0.001)
    assert pace(EVEN_S, latencies_s) < 0.95
    assert kept_up([1.0, pace(EVEN_S, latencies_s), 1.0, 1.0, 1.0])


def test_what_fails_was_not_answered() -> None:
    """However quick the answers to the others are."""
    quick_s = np.full(900, 0.001)
    assert pace(EVEN_S, quick_s, failures=9) == pytest.approx(900 / 909)
    assert not kept_up([pace(EVEN_S, quick_s, failures=900)])
    assert pace(np.zeros(0), np.zeros(0), failures=3) == 0.0
    assert not kept_up([0.0])


def test_one_answer_or_arrivals_all_at_once_tell_of_no_growth() -> None:
    assert pace(np.zeros(1), np.full(1, 0.5)) == 1.0
    assert pace(np.zeros(100), np.linspace(0.0, 1.0, 100)) == 1.0
