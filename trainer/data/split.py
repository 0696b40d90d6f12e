"""Labelled examples in three disjoint parts. It knows arrays, not where they come from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from service.manifest import ImageSpec
from trainer.errors import DataError

TRAIN, VALIDATION, TEST = 0, 1, 2
PARTS = ("train", "validation", "test")
NAMED = 5
"""Classes that an error names at most."""


class Part(NamedTuple):
    """Inputs [N, ...] in raw units, in the dtype of their source, and int64 labels [N]."""

    inputs: NDArray
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """A data set: train, validation and test, disjoint. `classes` are the K names that labels index."""

    name: str
    classes: tuple[str, ...]
    image: ImageSpec | None
    train: Part
    validation: Part
    test: Part

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return self.train.inputs.shape[1:]

    @property
    def background(self) -> float:
        """What comes in where an image is moved: the lowest value of its pixels; 0 where examples are none."""
        return self.image.range[0] if self.image else 0.0

    def sha256(self) -> str:
        """SHA-256 of everything in it: a model names the data that it was trained on by this."""
        digest = hashlib.sha256(repr((self.name, self.classes, self.shape)).encode())
        for part in (self.train, self.validation, self.test):
            digest.update(np.ascontiguousarray(part.inputs, dtype=np.float32).data)
            digest.update(np.ascontiguousarray(part.labels).data)
        return digest.hexdigest()


def make_split(
    name: str,
    inputs: NDArray,
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    image: ImageSpec | None,
    part_N: NDArray[np.integer],
) -> Split:
    """Divides N examples by `part_N` (0 train, 1 validation, 2 test) and checks that they can be trained on.

    Raises DataError: not numbers, not finite, an empty part, a class without training examples, labels out of range.
    """
    if inputs.dtype.kind not in "fiub":
        raise DataError(f"{name}: inputs are of type {inputs.dtype}, expected numbers")
    with np.errstate(over="ignore"):
        finite = np.isfinite(inputs.astype(np.float32, copy=False))
    if not finite.all():
        rows = np.unique(np.argwhere(~finite)[:, 0])
        raise DataError(f"{name}: {len(rows)} examples hold NaN or infinity as float32, the first is number {rows[0]}")
    if not inputs[:1].size:
        raise DataError(f"{name}: inputs have shape {list(inputs.shape)}, expected at least one number an example")
    if len(set(classes)) < len(classes):
        twice = sorted({label for label in classes if classes.count(label) > 1})
        raise DataError(f"{name}: two classes have the name {', '.join(twice)}")
    broken = [label for label in classes if len(label.splitlines()) != 1]
    if broken:
        raise DataError(f"{name}: the class name {broken[0]!r} is not one line of text")
    if len(classes) < 2:
        raise DataError(f"{name}: {len(classes)} class, expected at least 2")
    if labels.min() < 0 or labels.max() >= len(classes):
        raise DataError(
            f"{name}: labels go from {labels.min()} to {labels.max()}, expected 0 to {len(classes) - 1} "
            f"for {len(classes)} classes"
        )
    parts = [Part(inputs[part_N == code], labels[part_N == code]) for code in (TRAIN, VALIDATION, TEST)]
    for part, what in zip(parts, PARTS, strict=True):
        if not len(part.labels):
            raise DataError(f"{name}: the {what} part is empty; it takes all of train, validation and test")
    missing = sorted(set(range(len(classes))) - set(parts[TRAIN].labels.tolist()))
    if missing:
        named = ", ".join(classes[k] for k in missing[:NAMED])
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        raise DataError(f"{name}: no training example of class {named}{more}")
    return Split(name, classes, image, *parts)


class Shares(NamedTuple):
    """How examples without a split of their own are divided: two shares of them, and the seed that draws them."""

    validation: float
    test: float
    seed: int


def stratified(name: str, labels: NDArray[np.int64], shares: Shares) -> NDArray[np.int8]:
    """Part codes [N] that keep each class's share in every part; the same seed gives the same parts.

    Raises DataError where a class is too rare to be in all three.
    """
    values, counts = np.unique(labels, return_counts=True)
    if counts.min() < 3:
        rare = values[counts.argmin()]
        raise DataError(f"{name}: label {rare} has {counts.min()} examples, expected at least 3, one for each part")
    part_N = np.zeros(len(labels), dtype=np.int8)
    rest = np.arange(len(labels))
    try:
        for code, share in ((TEST, shares.test), (VALIDATION, shares.validation / (1 - shares.test))):
            if share == 0:
                continue
            rest, chosen = train_test_split(rest, test_size=share, stratify=labels[rest], random_state=shares.seed)
            part_N[chosen] = code
    except ValueError as error:
        raise DataError(
            f"{name}: cannot be split, {shares.validation} validation and {shares.test} test: {error}"
        ) from error
    return part_N
