"""service/measures.py against hand-worked cases, scipy and scikit-learn, and identities."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from service import measures

LOGITS = arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(2, 5)), elements=st.floats(-50, 50))
TEMPERATURES = st.floats(0.05, 100)


@given(LOGITS, TEMPERATURES)
def test_log_softmax_is_that_of_scipy(logits, temperature):
    """Of the logits divided by the temperature."""
    expected = scipy.special.log_softmax(logits / temperature, axis=-1)
    np.testing.assert_allclose(measures.log_softmax(logits, temperature), expected, atol=1e-10)


def test_log_softmax_by_hand():
    """Three to one has probabilities 3/4 and 1/4, and at temperature 2 the roots of three to one."""
    logits = np.array([[math.log(3.0), 0.0]])
    np.testing.assert_allclose(np.exp(measures.log_softmax(logits)), [[0.75, 0.25]])
    root = math.sqrt(3.0)
    np.testing.assert_allclose(np.exp(measures.log_softmax(logits, 2.0)), [[root / (1 + root), 1 / (1 + root)]])


@given(LOGITS, st.floats(-1000, 1000))
def test_log_softmax_ignores_a_constant_and_sums_to_one(logits, constant):
    """Adding a number to all logits changes nothing."""
    np.testing.assert_allclose(measures.log_softmax(logits + constant), measures.log_softmax(logits), atol=1e-9)
    np.testing.assert_allclose(np.exp(measures.log_softmax(logits)).sum(axis=-1), 1.0)


def test_log_softmax_of_a_hot_distribution_is_uniform_and_of_float32_is_float64():
    """As T grows, every class gets 1 / K."""
    hot = measures.log_softmax(np.array([[5.0, -3.0, 1.0, 0.0]], dtype=np.float32), 1e9)
    assert hot.dtype == np.float64
    np.testing.assert_allclose(np.exp(hot), 0.25, atol=1e-8)


def test_log_softmax_keeps_what_the_exponential_would_lose():
    """Logits of a thousand neither overflow nor become log 0."""
    np.testing.assert_allclose(measures.log_softmax(np.array([[1000.0, 0.0]])), [[0.0, -1000.0]])


@given(st.integers(1, 400), st.floats(0, 1))
def test_the_wilson_interval_is_that_of_scipy(total, share):
    """Method `wilson` of scipy.stats.binomtest, at 95 %."""
    successes = round(share * total)
    expected = scipy.stats.binomtest(successes, total).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose(measures.wilson(successes, total), expected, atol=1e-12)


def test_a_perfect_score_still_has_an_interval():
    """10 of 10 right: the interval ends at 1 and starts at n / (n + z^2)."""
    estimate = measures.accuracy(np.arange(10), np.arange(10))
    assert estimate.value == 1.0
    np.testing.assert_allclose(estimate.interval, [10 / (10 + 1.959964**2), 1.0], atol=1e-6)


def test_accuracy_errors_and_nll_are_those_of_scikit_learn():
    """On 200 random predictions of 4 classes."""
    random = np.random.default_rng(0)
    labels, log_p = random.integers(0, 4, 200), measures.log_softmax(random.normal(size=(200, 4)))
    predicted = log_p.argmax(axis=1)
    assert measures.accuracy(predicted, labels).value == sklearn.metrics.accuracy_score(labels, predicted)
    assert measures.errors(predicted, labels) == sklearn.metrics.zero_one_loss(labels, predicted, normalize=False)
    assert measures.nll(log_p, labels) == pytest.approx(sklearn.metrics.log_loss(labels, np.exp(log_p)))


def test_certain_and_right_has_no_loss():
    """Not even a negative zero, which JSON would show."""
    nll = measures.nll(np.log([[1.0, 1e-30]]), np.array([0]))
    assert (nll, math.copysign(1, nll)) == (0.0, 1.0)


def test_ece_by_hand():
    """Two at 0.8 of which one is right, two at 0.6 of which both are: (2 × 0.3 + 2 × 0.4) / 4."""
    p = np.array([[0.8, 0.2], [0.8, 0.2], [0.6, 0.4], [0.6, 0.4]])
    labels = np.array([0, 1, 0, 0])
    assert measures.ece(np.log(p), labels, bins=10) == pytest.approx(0.35)
    groups = measures.reliability(np.log(p), labels, bins=10)
    assert [group.examples for group in groups] == [2, 2]
    assert [group.accuracy for group in groups] == [1.0, 0.5]
    np.testing.assert_allclose([group.confidence for group in groups], [0.6, 0.8])


def test_one_bin_compares_accuracy_with_mean_confidence():
    """With one bin, ECE is the difference of two means."""
    random = np.random.default_rng(1)
    log_p, labels = measures.log_softmax(random.normal(size=(100, 3))), random.integers(0, 3, 100)
    confidence, right = np.exp(log_p.max(axis=1)).mean(), (log_p.argmax(axis=1) == labels).mean()
    assert measures.ece(log_p, labels, bins=1) == pytest.approx(abs(right - confidence))


def test_a_confidence_on_the_edge_belongs_to_the_bin_below_it():
    """Bins are (low, high]: 1.0 is in the last of them, 0.5 in the first of two."""
    p = np.array([[1.0, 1e-30], [0.5, 0.5]])
    groups = measures.reliability(np.log(p), np.array([0, 0]), bins=2)
    assert [(group.examples, group.confidence) for group in groups] == [(1, 0.5), (1, 1.0)]


def test_agreement_by_hand():
    """Three of four labels are the same; with itself a model agrees always."""
    first, second = np.array([0, 1, 2, 3]), np.array([0, 1, 2, 0])
    assert (measures.agreement(first, second), measures.agreement(first, first)) == (0.75, 1.0)


def test_accuracy_difference_by_hand():
    """N = 100, b = 20, c = 5: with one added to each, 21 / 102 and 6 / 102 (Bonett and Price 2012)."""
    labels = np.zeros(100, dtype=int)
    first, second = np.zeros(100, dtype=int), np.zeros(100, dtype=int)
    second[:20], first[20:25] = 1, 1
    estimate = measures.accuracy_difference(first, second, labels)
    p12, p21 = 21 / 102, 6 / 102
    half = 1.959964 * math.sqrt((p12 + p21 - (p12 - p21) ** 2) / 102)
    assert estimate.value == pytest.approx(0.15)
    np.testing.assert_allclose(estimate.interval, [p12 - p21 - half, p12 - p21 + half], atol=1e-6)


LABELS = arrays(np.int64, 30, elements=st.integers(0, 3))


@given(LABELS, LABELS, LABELS)
def test_the_accuracy_difference_is_that_of_the_accuracies_and_turns_its_sign(first, second, labels):
    """Its value is accuracy minus accuracy; swapped, value and interval change signs."""
    forth, back = (
        measures.accuracy_difference(first, second, labels),
        measures.accuracy_difference(second, first, labels),
    )
    assert forth.value == pytest.approx(
        measures.accuracy(first, labels).value - measures.accuracy(second, labels).value
    )
    assert back.value == -forth.value
    np.testing.assert_allclose(back.interval, [-forth.interval.high, -forth.interval.low])
    assert -1 <= forth.interval.low < forth.interval.high <= 1


def test_the_interval_of_the_accuracy_difference_covers():
    """Of 2,000 simulated pairs of models, the truth lies inside for 95 %, within a percent and a half."""
    random = np.random.default_rng(0)
    probabilities = [0.85, 0.06, 0.03, 0.06]  # both right, only the first, only the second, none
    outcomes = random.choice(4, size=(2000, 200), p=probabilities)
    labels = np.ones(200, dtype=int)
    inside = 0
    for outcome in outcomes:
        first, second = np.isin(outcome, (0, 1)).astype(int), np.isin(outcome, (0, 2)).astype(int)
        low, high = measures.accuracy_difference(first, second, labels).interval
        inside += low <= 0.03 <= high
    assert abs(inside / 2000 - 0.95) < 0.015


@pytest.mark.parametrize(
    "measure",
    [
        lambda none: measures.accuracy(none, none),
        lambda none: measures.nll(none.reshape(0, 2), none),
        lambda none: measures.ece(none.reshape(0, 2), none),
        lambda none: measures.agreement(none, none),
        lambda none: measures.accuracy_difference(none, none, none),
        lambda none: measures.wilson(0, 0),
    ],
)
def test_a_measure_of_nothing_is_refused(measure):
    """Rather than NaN."""
    with pytest.raises(ValueError, match="no examples: a measure needs at least one"):
        measure(np.zeros(0, dtype=int))
