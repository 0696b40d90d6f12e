"""Repairs of a student that has never seen some classes: shifts of their biases (section 3).

It knows logits, not networks. The paper chose the shift on the test set; matching the known prior needs no label of
the inputs that it looks at.
Legend: N examples, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service import measures

Floats = NDArray[np.floating]
Labels = NDArray[np.int64]
STEPS = 500


def best_shift(logits_NK: Floats, labels_N: Labels, classes: Sequence[int], shifts: Sequence[float]) -> float:
    """The shift, the same for all of `classes`, with the fewest errors on these examples; of equals the smallest.

    On test examples it is the paper's choice, which knows what it is examined on.
    """
    errors = [measures.errors(shifted(logits_NK, classes, shift).argmax(axis=1), labels_N) for shift in shifts]
    return min(zip(errors, map(abs, shifts), shifts, strict=True))[2]


def shifted(logits_NK: Floats, classes: Sequence[int], shift: float) -> Floats:
    """The logits with `shift` added to those of `classes`."""
    moved = np.array(logits_NK, dtype=np.float64)
    moved[:, list(classes)] += shift
    return moved


def prior_shifts(logits_NK: Floats, prior_K: Floats) -> Floats:
    """The shifts [K] with which the mean predicted distribution over these inputs is the known prior of the classes.

    Each step adds log(prior / mean prediction): a fixed point is where they agree, and the shifts of a class that was
    never predicted grow until it is. Up to a constant, which softmax does not see, they are unique.
    """
    shifts_K = np.zeros(logits_NK.shape[1])
    for _ in range(STEPS):
        predicted_K = np.exp(measures.log_softmax(logits_NK + shifts_K)).mean(axis=0)
        step_K = np.log(prior_K) - np.log(np.maximum(predicted_K, 1e-30))
        shifts_K += np.clip(step_K, -1.0, 1.0)
        if np.abs(step_K).max() < 1e-6:
            break
    return shifts_K - shifts_K.mean()
