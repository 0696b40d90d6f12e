"""What a model answers to the examples, and how good that is. It knows no speed and no other model.

Legend: N examples, K classes. Everything is at temperature 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service import measures
from service.comparison.schema.quality import ClassQuality, Confused, LabelFlips, ReliabilityBin
from service.comparison.subject import Subject
from service.errors import InputError

Labels = NDArray[np.int64]
LogP = NDArray[np.float64]
Inputs = NDArray[np.float32]

MOST_CONFUSED = 20
LARGEST_MATRIX = 50
"""Classes up to which the whole confusion matrix is told."""
FLIP_EXAMPLES = 200
"""Examples that are answered a second time, one at a time, to see whether labels depend on the batch."""


class Quality(NamedTuple):
    """What the labels say of a model: each field is that of the report."""

    accuracy: float
    accuracy_interval: measures.Interval
    nll: float
    brier: float
    ece: float
    reliability: list[ReliabilityBin]
    per_class: list[ClassQuality]
    confusion: list[list[int]] | None
    confused: list[Confused]


def log_probabilities(subject: Subject, inputs: Inputs, max_batch: int) -> LogP:
    """log p [N, K] of the model for inputs [N, ...], at most `max_batch` rows at a time.

    Raises InputError where an answer is not finite, which finite inputs far out of the model's range can cause.
    """
    parts = (inputs[start : start + max_batch] for start in range(0, len(inputs), max_batch))
    logits_NK = np.concatenate([subject.run(part).logits_BK for part in parts])
    wrong_N = ~np.isfinite(logits_NK).all(axis=1)
    if wrong_N.any():
        raise InputError(
            f"{subject.place} gives no finite answer to example {wrong_N.argmax()}, "
            f"whose values go from {inputs[wrong_N][0].min():g} to {inputs[wrong_N][0].max():g}; "
            "expected the raw units that it was trained on"
        )
    return measures.log_softmax(logits_NK)


def label_flips(subject: Subject, inputs: Inputs, batch: int) -> LabelFlips:
    """Answers the first examples one at a time and in batches, and counts the labels that differ."""
    asked = inputs[:FLIP_EXAMPLES]
    batch = min(batch, len(asked))
    labels = [
        np.concatenate([subject.run(asked[i : i + size]).logits_BK.argmax(axis=1) for i in range(0, len(asked), size)])
        for size in (1, batch)
    ]
    return LabelFlips(sizes=(1, batch), examples=len(asked), flips=measures.errors(*labels))


def quality(log_p_NK: LogP, labels_N: Labels | None, classes: Sequence[str]) -> Quality | None:
    """How right and how calibrated; None without labels."""
    if labels_N is None:
        return None
    predicted_N = log_p_NK.argmax(axis=1)
    right = measures.accuracy(predicted_N, labels_N)
    cells_KK = measures.confusion(predicted_N, labels_N, len(classes))
    return Quality(
        accuracy=right.value,
        accuracy_interval=right.interval,
        nll=measures.nll(log_p_NK, labels_N),
        brier=measures.brier(log_p_NK, labels_N),
        ece=measures.ece(log_p_NK, labels_N),
        reliability=[ReliabilityBin(**group._asdict()) for group in measures.reliability(log_p_NK, labels_N)],
        per_class=[_of_class(k, log_p_NK, labels_N, cells_KK, label) for k, label in enumerate(classes)],
        confusion=cells_KK.tolist() if len(classes) <= LARGEST_MATRIX else None,
        confused=_confused(cells_KK, classes),
    )


def _of_class(k: int, log_p_NK: LogP, labels_N: Labels, cells_KK: NDArray[np.int64], label: str) -> ClassQuality:
    of_class = labels_N == k
    examples, right = int(of_class.sum()), int(cells_KK[k, k])
    answered = int(cells_KK[:, k].sum())
    if not examples:
        nothing = dict.fromkeys(("accuracy", "accuracy_interval", "nll", "brier", "ece"))
        return ClassQuality(label=label, examples=0, answered=answered, **nothing)
    own_NK, own_N = log_p_NK[of_class], labels_N[of_class]
    return ClassQuality(
        label=label,
        examples=examples,
        answered=answered,
        accuracy=right / examples,
        accuracy_interval=measures.wilson(right, examples),
        nll=measures.nll(own_NK, own_N),
        brier=measures.brier(own_NK, own_N),
        ece=measures.ece(own_NK, own_N),
    )


def _confused(cells_KK: NDArray[np.int64], classes: Sequence[str]) -> list[Confused]:
    """The cells off the diagonal that hold any example, most first."""
    off = cells_KK - np.diag(np.diag(cells_KK))
    order = np.argsort(-off, axis=None, kind="stable")[:MOST_CONFUSED]
    cells = [divmod(int(at), len(classes)) for at in order]
    return [
        Confused(label=classes[label], answer=classes[answer], examples=int(off[label, answer]))
        for label, answer in cells
        if off[label, answer]
    ]
