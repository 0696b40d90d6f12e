"""The test set that travels with a model. It knows the file and its checks, not what the examples are for."""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.errors import ModelError, NotFoundError
from service.manifest import HELD_OUT, Manifest, read_checked


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
