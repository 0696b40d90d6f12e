"""The test set that travels with a model, and the hashes of what it was trained on.

It knows the files and their checks, not what the examples are for.
"""

from __future__ import annotations

import hashlib
import io
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.errors import ModelError, NotFoundError
from service.manifest import HELD_OUT, TRAIN_HASHES, Manifest, read_checked


class HeldOut(NamedTuple):
    """The test set that travels with a model: `inputs` float32 [N, ...] in raw units, `labels` int64 [N]."""

    inputs: NDArray[np.float32]
    labels: NDArray[np.int64]


def read_held_out(repository: Path, manifest: Manifest) -> HeldOut:
    """The held-out examples of a model of that repository, once they match its manifest.

    Raises NotFoundError where it has none, ModelError where they are not what the manifest says.
    """
    place = f"{manifest.name}/{manifest.version}"
    if HELD_OUT not in manifest.files:
        raise NotFoundError(f"{place} has no held-out examples")
    raw = read_checked(repository / manifest.name / str(manifest.version), manifest, HELD_OUT)
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
            inputs, labels = arrays["inputs"].astype(np.float32), arrays["labels"].astype(np.int64)
    except Exception as error:  # numpy and zipfile raise a dozen kinds on what is no .npz
        raise ModelError(f"{place}: {HELD_OUT} is not a file of the arrays inputs and labels: {error}") from error
    shape = (len(labels), *manifest.input.shape)
    if inputs.shape != shape or not len(labels) or not 0 <= labels.min() <= labels.max() < len(manifest.classes):
        raise ModelError(
            f"{place}: {HELD_OUT} holds inputs {list(inputs.shape)} and labels {list(labels.shape)}, "
            f"expected {list(shape)} and labels from 0 to {len(manifest.classes) - 1}"
        )
    if not np.isfinite(inputs).all():
        raise ModelError(f"{place}: {HELD_OUT} holds NaN or infinity, expected finite inputs")
    return HeldOut(inputs, labels)


def input_hashes(inputs: NDArray[np.floating]) -> NDArray[np.uint64]:
    """uint64 [N]: the first 8 bytes, little-endian, of the SHA-256 of each example [N, ...] as float32 in C order."""
    rows = np.ascontiguousarray(inputs, dtype="<f4").reshape(len(inputs), math.prod(inputs.shape[1:]))
    return np.array([int.from_bytes(hashlib.sha256(row.data).digest()[:8], "little") for row in rows], dtype=np.uint64)


def read_train_hashes(repository: Path, manifest: Manifest) -> NDArray[np.uint64] | None:
    """The hashes of a model's training examples; None where it tells none. Raises ModelError for another file."""
    if TRAIN_HASHES not in manifest.files:
        return None
    raw = read_checked(repository / manifest.name / str(manifest.version), manifest, TRAIN_HASHES)
    try:
        hashes = np.load(io.BytesIO(raw), allow_pickle=False)
    except Exception as error:  # as above
        raise ModelError(f"{manifest.name}/{manifest.version}: {TRAIN_HASHES} is no array: {error}") from error
    if hashes.dtype != np.uint64 or hashes.ndim != 1:
        raise ModelError(
            f"{manifest.name}/{manifest.version}: {TRAIN_HASHES} is {hashes.dtype} {list(hashes.shape)}, "
            "expected uint64 [N]"
        )
    return np.asarray(hashes, dtype=np.uint64)
