"""service/answers.py: what several requests of one run share is right for each of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from service.answers import Answer, Run
from service.model import Prediction

LOGITS = np.array([[0.0, 1.0, 1.0], [3.0, -2.0, 0.5], [1e4, -1e4, 0.0]], dtype=np.float32)
RUN = Run(Prediction(softmax(LOGITS, axis=1), LOGITS), 0.25)


@pytest.mark.parametrize("temperature", [1.0, 0.3, 20.0])
def test_each_request_gets_the_probabilities_of_its_rows(temperature: float):
    """As scipy's softmax of the logits by the temperature."""
    for rows in (slice(0, 1), slice(1, 3), slice(0, 3)):
        expected = softmax(LOGITS[rows].astype(np.float64) / temperature, axis=1)
        answer = Answer(RUN, rows, 0.0)
        np.testing.assert_allclose(answer.probabilities(temperature), expected, atol=1e-12)
        np.testing.assert_array_equal(answer.prediction.logits_BK, LOGITS[rows])


def test_the_order_is_that_of_the_logits_and_of_equals_the_first():
    """A temperature that rounds the probabilities to equal ones changes nothing in it."""
    assert Answer(RUN, slice(0, 3), 0.0).order == [[1, 2, 0], [0, 2, 1], [0, 2, 1]]


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=2, max_size=5), st.floats(1e-308, 1e308))
def test_probabilities_are_a_distribution_whatever_the_temperature(logits: list[float], temperature: float):
    """Never NaN, which JSON would show as null."""
    row = np.array([logits], dtype=np.float32)
    (probabilities,) = Answer(Run(Prediction(row, row), 0.0), slice(0, 1), 0.0).probabilities(temperature)
    assert min(probabilities) >= 0.0
    assert sum(probabilities) == pytest.approx(1.0)
