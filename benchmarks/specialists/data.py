"""Examples of EMNIST's shape, drawn: 784 pixels, 62 classes, some of them close together. It knows no training.

Each class is a cloud in 16 dimensions, which a sigmoid of random mixtures turns into pixels in [0, 1]. Clouds overlap,
so that there is confusion from which to make groups. As in EMNIST, whose digits are half of it, ten classes hold half
of the examples, 5 % each, and the other 52 share the rest: a specialist's epoch is as long as the largest group asks.
"""

from __future__ import annotations

import numpy as np

from trainer.data.split import Part, Split

PIXELS = 784
HIDDEN = 16
SPREAD = 0.8
"""The deviation of a cloud, where the clouds' centres have deviation 1."""
FREQUENT = 10
OFTEN = 5.2
"""How many classes, the first ones, have so many times the examples of another: 10 of 5.2 are as much as 52 of 1."""


def emnist_shaped(classes: int, train: int, validation: int, test: int, seed: int = 0) -> Split:
    """So many examples in each part, which all have the same share of each class."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, HIDDEN))
    mixing = rng.normal(scale=HIDDEN**-0.5, size=(HIDDEN, PIXELS))
    ends = np.where(np.arange(classes) < FREQUENT, OFTEN, 1.0).cumsum()

    def part(rows: int) -> Part:
        labels = rng.permutation(np.searchsorted(ends / ends[-1], (np.arange(rows) + 0.5) / rows))
        cloud = centres[labels] + rng.normal(scale=SPREAD, size=(rows, HIDDEN))
        return Part((1.0 / (1.0 + np.exp(-cloud @ mixing))).astype(np.float32), labels)

    names = tuple(f"class {number}" for number in range(classes))
    return Split("drawn", names, None, part(train), part(validation), part(test))
