"""Two kinds of network on the same test examples: how much more often the one is right. It knows arrays alone.

Legend: N examples, R seeds.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Z = 1.96
"""Of a 95 % interval."""


class Paired(NamedTuple):
    """How much more often the one is right, as a share of the examples, with a 95 % interval over examples.

    It is of these networks: others of the same kind may differ by more.
    """

    value: float
    low: float
    high: float

    @property
    def shown(self) -> bool:
        """Whether the interval lies above 0."""
        return self.low > 0

    def times(self, factor: float) -> list[float]:
        """Value, low and high in another unit, such as errors or points."""
        return [round(factor * number, 4) for number in self]


def paired(right_RN: NDArray[np.bool_], against_RN: NDArray[np.bool_]) -> Paired:
    """From who was right where, several seeds of each: every example counts once, with its mean over seeds."""
    difference_N = right_RN.mean(axis=0) - against_RN.mean(axis=0)
    half = Z * float(difference_N.std()) / math.sqrt(len(difference_N))
    value = float(difference_N.mean())
    return Paired(value, value - half, value + half)
