"""What the models are compared on: a sample of their held-out set, or inputs that the request brings.

It knows arrays and their labels. It does not run models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from service.comparison.schema.conditions import Overlap
from service.comparison.subject import Subject
from service.errors import InputError
from service.held_out import input_hashes, read_held_out
from service.library import Library
from service.manifest import HELD_OUT, Manifest
from service.model import Model
from service.words import shown


@dataclass(frozen=True)
class Data:
    """Inputs float32 [N, ...] in raw units, and their labels int64 [N] where they are known.

    `dataset` and `limit` are None for inputs that were sent. `sha256` is that of the held-out file, or of the bytes
    of the inputs that were sent, float32 in C order.
    """

    inputs: NDArray[np.float32]
    labels: NDArray[np.int64] | None
    dataset: str | None
    limit: int | None
    sha256: str


def sent(inputs: NDArray[np.float32], labels: Sequence[object] | None, classes: Sequence[str]) -> Data:
    """Inputs of the request's own; each label is a class or its index.

    Raises InputError where there is not one label for each input, or one that no class has.
    """
    if labels is not None and len(labels) != len(inputs):
        raise InputError(f"labels: got {len(labels)} for {len(inputs)} inputs, expected one for each")
    indices = None if labels is None else [_index(at, label, classes) for at, label in enumerate(labels)]
    return Data(
        inputs,
        None if indices is None else np.array(indices, dtype=np.int64),
        dataset=None,
        limit=None,
        sha256=hashlib.sha256(inputs.tobytes()).hexdigest(),
    )


def _index(at: int, label: object, classes: Sequence[str]) -> int:
    if isinstance(label, str) and label in classes:
        return classes.index(label)
    if type(label) is int and 0 <= label < len(classes):
        return label
    known = f"{', '.join(classes[:10])}{', …' if len(classes) > 10 else ''}"
    raise InputError(
        f"labels[{at}]: got {shown(label)}, expected one of {known}, or an index from 0 to {len(classes) - 1}"
    )


def held_out(library: Library, models: Sequence[Model], limit: int, seed: int) -> Data:
    """A sample without replacement of `limit` examples of the held-out set that all these models share.

    Raises InputError where they do not share one, and ModelError where it cannot be read.
    """
    for first, second in pairwise(models):
        _check_same(first.manifest, second.manifest)
    inputs, labels = read_held_out(library.directory, models[0].stored)
    drawn = np.random.default_rng(seed).choice(len(inputs), size=min(limit, len(inputs)), replace=False)
    return Data(inputs[drawn], labels[drawn], "held-out", limit, models[0].manifest.files[HELD_OUT].sha256)


def overlap(subjects: Sequence[Subject], inputs: NDArray[np.float32]) -> list[Overlap]:
    """How many of the inputs [N, ...] each model was trained on, as far as it tells what it was trained on."""
    some = any(subject.trained_on is not None for subject in subjects)
    hashes = input_hashes(inputs if some else inputs[:0])
    return [
        Overlap(
            name=subject.name,
            version=subject.version,
            known=subject.trained_on is not None,
            examples=None if subject.trained_on is None else int(np.isin(hashes, subject.trained_on).sum()),
        )
        for subject in subjects
    ]


def _check_same(first: Manifest, second: Manifest) -> None:
    for manifest in (first, second):
        if HELD_OUT not in manifest.files:
            raise InputError(f"{manifest.name}/{manifest.version} has no {HELD_OUT}, expected inputs in the request")
    if first.files[HELD_OUT].sha256 != second.files[HELD_OUT].sha256:
        raise InputError(
            f"{first.name}/{first.version} and {second.name}/{second.version} have different held-out sets "
            f"(SHA-256 {first.files[HELD_OUT].sha256[:12]}… and {second.files[HELD_OUT].sha256[:12]}…), "
            "expected the same one, or inputs in the request"
        )
