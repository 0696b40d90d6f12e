"""The 1,797 8x8 digits of UCI's Optical Recognition of Handwritten Digits, which scikit-learn brings along."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits as load_from_sklearn

from service.manifest import ImageSpec
from trainer.data.split import Shares, Split, make_split, stratified


def load_digits(shares: Shares) -> Split:
    """Inputs uint8 [N, 8, 8], 0 to 16: each counts the ink in a 4x4 block of a 32x32 bitmap."""
    source = load_from_sklearn()
    labels = source.target.astype(np.int64)
    part_N = stratified("digits", labels, shares)
    classes = tuple(map(str, source.target_names))
    return make_split("digits", source.images.astype(np.uint8), labels, classes, ImageSpec(range=(0.0, 16.0)), part_N)
