"""What a run gave, and which part of it belongs to which request. It knows arrays, not queues or formats.

What several requests of one run ask for is worked out once, for all of its rows.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.model import Prediction


class Run:
    """One run of a model: what it gave for its B rows, and how many seconds it took."""

    def __init__(self, prediction: Prediction, seconds: float) -> None:
        self.prediction = prediction
        self.seconds = seconds

    @cached_property
    def probabilities(self) -> list[list[float]]:
        """softmax(logits), [B, K]."""
        return softened(self.prediction.logits_BK, 1.0)

    @cached_property
    def order(self) -> list[list[int]]:
        """The classes of each row, the best first, [B, K]; of equals the first."""
        order: list[list[int]] = np.argsort(-self.prediction.logits_BK, axis=1, kind="stable").tolist()
        return order


class Answer(NamedTuple):
    """The rows of one request in a run, and how many seconds they waited for it; of a cascade, which were deferred."""

    run: Run
    rows: slice
    queue_s: float
    deferred_N: NDArray[np.bool_] | None = None

    @property
    def prediction(self) -> Prediction:
        """Of these rows alone."""
        whole = self.run.prediction
        return Prediction(whole.probabilities_BK[self.rows], whole.logits_BK[self.rows])

    @property
    def order(self) -> list[list[int]]:
        """The classes of each row, the best first; whatever a temperature rounds away, the order stays."""
        return self.run.order[self.rows]

    def probabilities(self, temperature: float) -> list[list[float]]:
        """softmax(logits / T), [N, K], worked out in float64."""
        if temperature == 1.0:
            return self.run.probabilities[self.rows]
        return softened(self.run.prediction.logits_BK[self.rows], temperature)


def softened(logits_BK: NDArray[np.float32], temperature: float) -> list[list[float]]:
    """softmax(logits / T), in float64; a tiny temperature leaves 0 for whatever is not the maximum."""
    exact = logits_BK.astype(np.float64)
    shifted = exact - np.maximum.reduce(exact, axis=1, keepdims=True)
    if temperature != 1.0:
        with np.errstate(over="ignore"):
            shifted /= temperature
    powers = np.exp(shifted)
    probabilities: list[list[float]] = (powers / np.add.reduce(powers, axis=1, keepdims=True)).tolist()
    return probabilities
