"""The user's own arrays, in an `.npz` file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from service.manifest import ImageSpec
from trainer.data.split import Shares, Split, make_split, stratified
from trainer.errors import DataError

KEYS = ("inputs", "labels", "classes", "split")


def load_npz(path: Path, shares: Shares) -> Split:
    """Reads `inputs` [N, ...], `labels` int [N], optionally `classes` [K] and `split` [N] (0, 1, 2).

    Without `classes` they are "0" to "K-1"; without `split` it is made by seed and stratified. Inputs uint8 [N, H, W]
    are taken for grey images, 0 to 255. Raises DataError.
    """
    arrays = _read(path)
    inputs, labels = arrays["inputs"], arrays["labels"]
    if inputs.ndim < 2 or labels.ndim != 1 or len(inputs) != len(labels) or not len(labels):
        raise DataError(
            f"{path}: inputs have shape {list(inputs.shape)} and labels {list(labels.shape)}, expected [N, ...] and [N]"
        )
    if labels.dtype.kind not in "iu":
        raise DataError(f"{path}: labels are of type {labels.dtype}, expected integers; name the classes in `classes`")
    labels = labels.astype(np.int64)
    classes = _classes(path, arrays.get("classes"), labels)
    part_N = arrays.get("split")
    if part_N is None:
        part_N = stratified(path.name, labels, shares)
    elif part_N.shape != labels.shape or not np.isin(part_N, (0, 1, 2)).all():
        raise DataError(
            f"{path}: split has shape {list(part_N.shape)} and values {np.unique(part_N)[:5].tolist()}, "
            f"expected [{len(labels)}] of 0 (train), 1 (validation), 2 (test)"
        )
    is_image = inputs.dtype == np.uint8 and inputs.ndim == 3
    image = ImageSpec(range=(0.0, 255.0)) if is_image else None
    return make_split(path.stem, inputs, labels, classes, image, part_N)


def _classes(path: Path, names: NDArray | None, labels: NDArray[np.int64]) -> tuple[str, ...]:
    if names is None:
        if labels.max() >= len(labels):
            raise DataError(f"{path}: labels go up to {labels.max()}, expected 0 to K-1 for K classes")
        return tuple(map(str, range(int(labels.max()) + 1)))
    if names.ndim != 1 or names.dtype.kind not in "Uiu":
        raise DataError(
            f"{path}: classes have shape {list(names.shape)} and type {names.dtype}, expected [K] names as text"
        )
    return tuple(map(str, names))


def read_npz(path: Path, choose: Callable[[list[str]], list[str]], expected: str) -> dict[str, NDArray]:
    """The arrays of an `.npz` file that `choose` names, given the names of all; no other is unpacked.

    `expected` says what the file should have held where there is none. Raises DataError.
    """
    try:
        with path.open("rb") as opened, _archive(opened) as file:  # np.load leaves a damaged file open
            arrays = {name: file[name] for name in choose(file.files)}
            if not all(isinstance(array, np.ndarray) for array in arrays.values()):
                raise ValueError("it holds a file that is no array")
            return arrays
    except FileNotFoundError as error:
        raise DataError(f"no data at {path}: expected an .npz file with {expected}") from error
    except DataError:
        raise
    except Exception as error:  # what zipfile, zlib and numpy raise on a damaged file shares no other base class
        raise DataError(f"{path} is no .npz file of plain arrays: {error}") from error


def _read(path: Path) -> dict[str, NDArray]:
    def choose(held: list[str]) -> list[str]:
        if not {"inputs", "labels"} <= set(held) <= set(KEYS):
            raise DataError(f"{path} holds {', '.join(held)}; expected inputs, labels and optionally classes, split")
        return held

    return read_npz(path, choose, "`inputs` and `labels`")


def _archive(file: BinaryIO) -> NpzFile:
    archive = np.load(file, allow_pickle=False)
    if not isinstance(archive, NpzFile):
        raise ValueError("it holds one array; np.savez writes several")
    return archive
