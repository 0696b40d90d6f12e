"""The small parts of a comparison against independent oracles: the paired table, energy, arrivals, the machine."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from service import measures
from service.comparison.arrivals import poisson, serve
from service.comparison.energy import find_meter
from service.comparison.paired import verdict
from service.comparison.schema.part import Estimate
from service.machine import counted_cpus, cpu_limit, gpus, memory, memory_limit, resident
from service.model import Prediction


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (3, 9), (9, 3), (40, 41), (0, 17), (300, 350)])
def test_mcnemar_is_the_exact_test_of_scipy_and_statsmodels(b: int, c: int) -> None:
    p = measures.mcnemar(b, c)
    assert p == pytest.approx(stats.binomtest(b, b + c).pvalue if b + c else 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its import warns of what it uses itself
        from statsmodels.stats.contingency_tables import mcnemar
    assert p == pytest.approx(min(1.0, mcnemar(np.array([[50, b], [c, 7]]), exact=True).pvalue))


def test_mcnemar_by_hand() -> None:
    """One of five discordant: 2 * (1 + 5) / 32."""
    assert measures.mcnemar(1, 4) == 12 / 32


def test_the_wilson_interval_is_statsmodels() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from statsmodels.stats.proportion import proportion_confint
    for right, total in ((0, 5), (7, 7), (353, 360), (9886, 10_000)):
        assert measures.wilson(right, total) == pytest.approx(proportion_confint(right, total, method="wilson"))


@pytest.mark.parametrize("total", [1, 3, 10, 100, 360, 10_000, 123_457])
def test_the_wilson_interval_of_none_begins_at_0_and_of_all_ends_at_1(total: int) -> None:
    """Exactly: a bound of 3.5e-18 is the rounding of a difference."""
    none, every = measures.wilson(0, total), measures.wilson(total, total)
    assert (none.low, every.high) == (0.0, 1.0)
    assert none.high == pytest.approx(1 - every.low)


def test_kl_and_brier_are_scipys_and_numpys() -> None:
    rng = np.random.default_rng(0)
    p, q = (rng.dirichlet(np.ones(4), 20) for _ in range(2))
    assert measures.kl(np.log(p), np.log(q)) == pytest.approx(stats.entropy(p, q, axis=1).mean())
    labels = rng.integers(0, 4, 20)
    assert measures.brier(np.log(p), labels) == pytest.approx(((p - np.eye(4)[labels]) ** 2).sum(axis=1).mean())
    assert measures.brier(np.log(np.full((1, 2), 0.5)), np.array([0])) == pytest.approx(0.5)


def test_a_confusion_matrix_by_hand() -> None:
    found = measures.confusion(np.array([0, 1, 1, 2]), np.array([0, 0, 1, 1]), 3)
    assert found.tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 0]]


@pytest.mark.parametrize(
    ("interval", "result"),
    [
        ((-0.002, 0.001), "shown"),
        ((-0.004, -0.002), "not shown"),
        ((-0.003, 0.1), "not shown"),
        ((-0.02, -0.01), "refuted"),
    ],
)
def test_a_verdict_follows_from_where_the_interval_lies(interval: tuple[float, float], result: str) -> None:
    found = verdict(Estimate(value=sum(interval) / 2, interval=interval), 0.3, "a/1", "b/2")
    assert found.result == result
    assert found.text.startswith(f"a/1 is at most 0.3 points less accurate than b/2: {result} (difference ")
    assert verdict(Estimate(value=0.0, interval=interval), 1, "a", "b").text.startswith("a is at most 1 point less ")


def test_energy_is_what_the_packages_counted_and_a_counter_may_start_again(tmp_path: Path) -> None:
    for name, microjoules in (("intel-rapl:0", 900), ("intel-rapl:1", 5), ("intel-rapl:0:0", 77)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(f"{microjoules}\n")
        (tmp_path / name / "max_energy_range_uj").write_text("999\n")
    meter = find_meter(tmp_path)
    assert meter is not None
    before = meter.joules()
    assert before == [900, 5]
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("100\n")  # past its range: 200 on
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("35\n")
    assert meter.since(before) == pytest.approx(230e-6)
    (tmp_path / "intel-rapl:1" / "energy_uj").unlink()
    assert meter.joules() is None
    assert meter.since(before) is None


def test_without_a_meter_there_is_no_energy(tmp_path: Path) -> None:
    assert find_meter(tmp_path / "none") is None
    assert find_meter(tmp_path) is None


class Counted:
    """Writes down the batches that it gets."""

    def __init__(self) -> None:
        self.given: list[Any] = []

    def run(self, inputs: np.ndarray) -> Prediction:  # type: ignore[type-arg]
        self.given.append(inputs[:, 0].tolist())
        return Prediction(inputs, inputs)


def test_what_has_arrived_meanwhile_runs_next_in_one_batch_and_rows_go_round() -> None:
    """All four are due at once: the batches are as large as they may be, and no row is left out."""
    model = Counted()
    served = serve(model, np.arange(3, dtype=np.float32).reshape(3, 1), np.zeros(8), max_batch=3)
    assert model.given == [[0, 1, 2], [0, 1, 2], [0, 1]]
    assert (served.requests, served.runs, len(served.kept_s)) == (8, 3, 8)
    assert served.pace == 1.0


def test_latency_counts_from_the_arrival_and_not_from_the_run() -> None:
    """The first takes 30 ms; the second, which was due after 1 ms, has waited for it."""

    class Stalls(Counted):
        def run(self, inputs: np.ndarray) -> Prediction:  # type: ignore[type-arg]
            if not self.given:
                time.sleep(0.03)
            return super().run(inputs)

    served = serve(Stalls(), np.zeros((1, 1), np.float32), np.array([0.0, 0.001]), max_batch=1)
    assert served.kept_s[0] >= 0.03
    assert served.kept_s[1] >= 0.029


def test_what_comes_far_too_late_is_given_up_and_counted() -> None:
    class Slow(Counted):
        def run(self, inputs: np.ndarray) -> Prediction:  # type: ignore[type-arg]
            time.sleep(0.3)
            return super().run(inputs)

    served = serve(Slow(), np.zeros((1, 1), np.float32), np.linspace(0.0, 0.01, 50), max_batch=1)
    assert 3 <= served.requests <= 5
    assert served.requests + served.late == 50
    assert served.pace < 0.2


def test_arrivals_are_a_poisson_process() -> None:
    """Their gaps are exponential, their number is what the rate says."""
    arrivals_s = poisson(2000.0, 2.0, np.random.default_rng(1))
    assert (np.diff(arrivals_s) > 0).all()
    assert 0 < arrivals_s[-1] < 2.0
    assert len(arrivals_s) == pytest.approx(4000, abs=4 * np.sqrt(4000))
    assert stats.kstest(np.diff(arrivals_s), "expon", args=(0, 1 / 2000)).pvalue > 0.01
    assert len(poisson(0.001, 0.1, np.random.default_rng(0))) == 1


def test_counts_of_separate_seconds_have_the_mean_and_the_variance_of_the_rate() -> None:
    arrivals_s = poisson(200.0, 500.0, np.random.default_rng(0))
    counts, gaps_s = np.histogram(arrivals_s, np.arange(501))[0], np.diff(arrivals_s)
    assert counts.mean() == pytest.approx(200, rel=0.02)
    assert counts.var() == pytest.approx(200, rel=0.2)
    assert (gaps_s.min() >= 0, gaps_s.std() / gaps_s.mean()) == (True, pytest.approx(1, rel=0.02))


def test_the_limits_of_a_container_are_its_cgroups(tmp_path: Path) -> None:
    membership = tmp_path / "membership"
    membership.write_text("0::/a/b\n")
    for folder, quota, most in (("a/b", "150000 100000", "max"), ("a", "max 100000", "1048576")):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "cpu.max").write_text(quota)
        (tmp_path / folder / "memory.max").write_text(f"{most}\n")
    assert cpu_limit(tmp_path, membership) == 1.5
    assert memory_limit(tmp_path, membership) == 1048576
    assert cpu_limit(tmp_path, tmp_path / "none") is None
    assert memory_limit(tmp_path, tmp_path / "none") is None


def test_version_1_tells_of_no_memory_limit_by_a_huge_number(tmp_path: Path) -> None:
    (tmp_path / "membership").write_text("3:memory:/x\n")
    (tmp_path / "memory" / "x").mkdir(parents=True)
    (tmp_path / "memory" / "x" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert memory_limit(tmp_path, tmp_path / "membership") is None
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("4096\n")
    assert memory_limit(tmp_path, tmp_path / "membership") == 4096


def test_gpus_and_memory_are_named_where_the_system_tells_them(tmp_path: Path) -> None:
    (tmp_path / "0000:01").mkdir()
    (tmp_path / "0000:01" / "information").write_text("Model: \t\t NVIDIA H100\nIRQ:   5\n")
    assert gpus(tmp_path) == ["NVIDIA H100"]
    assert gpus(tmp_path / "none") == []
    assert (memory() or 0) > 2**28
    held = resident()
    assert held is not None
    assert 2**24 < held < (memory() or 0)
    assert resident(tmp_path / "none") is None


@pytest.mark.parametrize(("count", "words"), [(1, "1 CPU"), (2, "2 CPUs"), (128, "128 CPUs")])
def test_cpus_are_counted_in_words(count: int, words: str):
    assert counted_cpus(count) == words
