"""The results' figures against scipy, from graphs whose answers numpy knows; and the gain, worked by hand."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import special, stats
from torch import nn

from service.manifest import Role
from tests.repositories import examples, known_logits, linear, linear_graph
from trainer.data.split import Part
from trainer.evaluate import Contender, Results, evaluate, gain_kept
from trainer.export import Exported

TEST = Part(*examples(200))
SEEDS: dict[Role, int] = {"ensemble": 0, "member": 3, "baseline": 1, "student": 2}
MEMBERS = (3, 4, 5)


def network(seed: int) -> nn.Module:
    """The same linear network as the graph of that seed."""
    weights, bias = linear((8, 8), 10, seed)
    layer = nn.Linear(64, 10)
    layer.load_state_dict({"weight": torch.from_numpy(weights.T), "bias": torch.from_numpy(bias)})
    return nn.Sequential(nn.Flatten(), layer)


@pytest.fixture(scope="module")
def results() -> Results:
    contenders = []
    for role, seed in SEEDS.items():
        exported = Exported(linear_graph((8, 8), 10, seed), 0.0, 650, 640, 0.01 + seed)
        alike = [] if role in ("ensemble", "member") else [network(seed), network(seed + 10)]
        contenders.append(Contender(role, exported, [seed], alike))
    return evaluate(contenders, [network(seed) for seed in MEMBERS], TEST)


def log_p(seed: int) -> NDArray:
    return np.asarray(special.log_softmax(known_logits(TEST.inputs, seed=seed), axis=1))


def errors(seed: int) -> int:
    return int((log_p(seed).argmax(axis=1) != TEST.labels).sum())


def ece(seed: int) -> float:
    """Fifteen bins, once more."""
    confidence, right = np.exp(log_p(seed).max(axis=1)), log_p(seed).argmax(axis=1) == TEST.labels
    total = 0.0
    for low in range(15):
        inside = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        total += abs(right[inside].sum() - confidence[inside].sum())
    return total / len(right)


def test_rows_come_in_the_order_of_the_table(results):
    assert [row.role for row in results.rows] == ["ensemble", "member", "baseline", "student"]
    assert all(row.examples == 200 for row in results.rows)


@pytest.mark.parametrize("role", SEEDS)
def test_figures_equal_scipys(results, role):
    """Errors with their Wilson interval, NLL, ECE, agreement with the ensemble."""
    row = results.member if role == "member" else {row.role: row for row in results.rows}[role]
    seed = SEEDS[role]
    assert row.errors == errors(seed)
    interval = stats.binomtest(errors(seed), 200).proportion_ci(method="wilson")
    assert row.errors_interval == pytest.approx((200 * interval.low, 200 * interval.high))
    assert row.nll == pytest.approx(-log_p(seed)[np.arange(200), TEST.labels].mean(), rel=1e-4)
    assert row.ece == pytest.approx(ece(seed), abs=1e-4)
    same = np.mean(log_p(seed).argmax(axis=1) == log_p(0).argmax(axis=1))
    assert row.agreement == (None if role == "ensemble" else pytest.approx(same))
    assert (row.parameters, row.cpu_ms) == (650, 0.01 + seed)
    assert row.bytes == len(linear_graph((8, 8), 10, seed))


def test_one_member_is_the_mean_of_all(results):
    """With their spread, and without an interval or a graph of its own."""
    row = results.rows[1]
    each = [errors(seed) for seed in MEMBERS]
    assert row.errors == pytest.approx(np.mean(each))
    assert row.spread == pytest.approx((np.mean(each), np.std(each, ddof=1), 3))
    assert row.nll == pytest.approx(np.mean([-log_p(s)[np.arange(200), TEST.labels].mean() for s in MEMBERS]), rel=1e-4)
    assert row.ece == pytest.approx(np.mean([ece(seed) for seed in MEMBERS]), abs=1e-4)
    agreements = [np.mean(log_p(seed).argmax(axis=1) == log_p(0).argmax(axis=1)) for seed in MEMBERS]
    assert row.agreement == pytest.approx(np.mean(agreements))
    assert (row.errors_interval, row.bytes, row.cpu_ms, row.parameters) == (None, None, None, 650)


def test_students_and_baselines_have_a_spread_over_their_seeds(results):
    for row in results.rows[2:]:
        each = [errors(SEEDS[row.role]), errors(SEEDS[row.role] + 10)]
        assert row.spread == pytest.approx((np.mean(each), np.std(each, ddof=1), 2))
    assert results.rows[0].spread is None


def test_the_gain_is_that_of_the_published_models(results):
    assert results.gain.teacher.value == pytest.approx((errors(1) - errors(0)) / 200)
    assert results.gain.student.value == pytest.approx((errors(1) - errors(2)) / 200)


def test_gain_and_agreement_are_of_the_model_that_taught():
    """Of specialists where these did; it is they that have no agreement then, and the ensemble has one with them."""
    seeds: dict[Role, int] = {"ensemble": 0, "specialists": 6, "baseline": 1, "student": 2}
    graphs = {role: Exported(linear_graph((8, 8), 10, seed), 0.0, 650, 640, 0.01) for role, seed in seeds.items()}
    found = evaluate([Contender(role, graphs[role], [0], []) for role in seeds], [], TEST, "specialists")
    assert found.teacher == "specialists"
    assert found.gain.teacher.value == pytest.approx((errors(1) - errors(6)) / 200)
    assert found.gain.student.value == pytest.approx((errors(1) - errors(2)) / 200)
    for row in found.rows:
        same = np.mean(log_p(seeds[row.role]).argmax(axis=1) == log_p(6).argmax(axis=1))
        assert row.agreement == (None if row.role == "specialists" else pytest.approx(same))


def predicted(wrong: int) -> NDArray[np.int64]:
    """Labels of which the first so many are wrong, where 0 is right."""
    return (np.arange(100) < wrong).astype(np.int64)


RIGHT = np.zeros(100, dtype=np.int64)


def test_the_share_of_the_gain_worked_by_hand():
    """Baseline 20 errors, student 5, ensemble none: (0.95 - 0.80) / (1.00 - 0.80) = 3/4."""
    gain = gain_kept(predicted(5), predicted(20), predicted(0), RIGHT)
    assert gain.kept.value == pytest.approx(0.75)
    assert gain.teacher.value == pytest.approx(0.20)
    assert gain.student.value == pytest.approx(0.15)


def test_a_student_may_lose_or_beat_the_gain():
    """Worse than the baseline is a negative share, better than the ensemble one above 1."""
    assert gain_kept(predicted(30), predicted(20), predicted(0), RIGHT).kept.value == pytest.approx(-0.5)
    assert gain_kept(predicted(0), predicted(40), predicted(20), RIGHT).kept.value == pytest.approx(2.0)


@pytest.mark.parametrize("ensemble", [19, 20, 21])
def test_a_share_of_nothing_is_not_given(ensemble):
    """One error more or less than the baseline's 20 is noise: the interval holds 0."""
    gain = gain_kept(predicted(5), predicted(20), predicted(ensemble), RIGHT)
    assert gain.kept is None
    assert gain.teacher.interval.low < 0 < gain.teacher.interval.high


def test_a_share_of_a_loss_is_not_given():
    """An ensemble that is clearly worse than the baseline has no gain to keep."""
    assert gain_kept(predicted(30), predicted(20), predicted(60), RIGHT).kept is None


def test_the_share_has_the_interval_of_a_bootstrap_over_examples():
    """Against resampling the examples themselves."""
    random = np.random.default_rng(3)
    labels = np.zeros(400, dtype=np.int64)
    student, baseline, ensemble = ((random.random(400) < rate).astype(np.int64) for rate in (0.12, 0.2, 0.08))
    kept = gain_kept(student, baseline, ensemble, labels).kept
    draws = random.integers(0, 400, (4000, 400))
    gains = [(baseline - other)[draws].sum(axis=1) for other in (student, ensemble)]
    low, high = np.quantile(gains[0] / gains[1], (0.025, 0.975))
    assert kept.value == pytest.approx((baseline.sum() - student.sum()) / (baseline.sum() - ensemble.sum()))
    assert kept.interval == pytest.approx((low, high), abs=0.05)
