"""What models answer to the same examples, and how good that is. It knows no speed and no reports.

Legend: N examples, K classes. Everything is at temperature 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service import measures
from service.errors import InputError
from service.measures import Estimate
from service.model import Model

Labels = NDArray[np.int64]
LogP = NDArray[np.float64]


class Quality(NamedTuple):
    """Accuracy with its Wilson interval, mean NLL in nats, ECE over 15 bins."""

    accuracy: Estimate
    nll: float
    ece: float


class Fidelity(NamedTuple):
    """How a relates to b: the share of examples with the same label, and accuracy(a) - accuracy(b), paired."""

    agreement: float
    accuracy_difference: Estimate | None


def log_probabilities(model: Model, inputs: NDArray[np.float32], max_batch: int) -> LogP:
    """log p [N, K] of the model for inputs [N, ...], at most `max_batch` rows at a time.

    Raises InputError where an answer is not finite, which finite inputs far out of the model's range can cause.
    """
    parts = (inputs[start : start + max_batch] for start in range(0, len(inputs), max_batch))
    logits_NK = np.concatenate([model.run(part).logits_BK for part in parts])
    wrong_N = ~np.isfinite(logits_NK).all(axis=1)
    if wrong_N.any():
        raise InputError(
            f"{model.manifest.name}/{model.manifest.version} gives no finite answer to example {wrong_N.argmax()}, "
            f"whose values go from {inputs[wrong_N][0].min():g} to {inputs[wrong_N][0].max():g}; "
            "expected the raw units that it was trained on"
        )
    return measures.log_softmax(logits_NK)


def quality(log_p_NK: LogP, labels_N: Labels | None) -> Quality | None:
    """How right and how calibrated; None without labels."""
    if labels_N is None:
        return None
    right = measures.accuracy(log_p_NK.argmax(axis=1), labels_N)
    return Quality(right, measures.nll(log_p_NK, labels_N), measures.ece(log_p_NK, labels_N))


def fidelity(log_p_a_NK: LogP, log_p_b_NK: LogP, labels_N: Labels | None) -> Fidelity:
    """How the labels of a relate to those of b; without labels there is no difference in accuracy."""
    first_N, second_N = log_p_a_NK.argmax(axis=1), log_p_b_NK.argmax(axis=1)
    difference = None if labels_N is None else measures.accuracy_difference(first_N, second_N, labels_N)
    return Fidelity(measures.agreement(first_N, second_N), difference)
