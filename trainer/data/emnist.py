"""EMNIST's 62 handwritten characters, from two files that a user makes once. It knows them, and downloads nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.manifest import ImageSpec
from trainer.data.arrays import read_npz
from trainer.data.split import TEST, TRAIN, VALIDATION, Split, make_split
from trainer.errors import DataError

BYCLASS, UNLABELLED = "byclass.npz", "unlabelled.npz"
KEYS = ("images", "labels", "characters")
SIZES = (90_000, 10_000, 16_323)
"""Of training, validation and test: EMNIST ByClass has no validation part, so we divide its test part, always alike."""


def load_emnist(data_dir: Path | None, sizes: tuple[int, int, int] = SIZES) -> Split:
    """Inputs uint8 [116,323, 28, 28], 0 to 255, of `<data_dir>/emnist/byclass.npz`; the classes are its characters.

    The parts have those `sizes`, of the same permutation always. Raises DataError: no such file, or another one's.
    """
    path = emnist_file(BYCLASS, data_dir)
    arrays = read_npz(path, lambda held: _choose(path, held), ", ".join(KEYS))
    images, labels, characters = (arrays[key] for key in KEYS)
    _check(path, images, labels, characters, sum(sizes))
    part_N = np.empty(len(labels), dtype=np.int8)
    part_N[np.random.default_rng(0).permutation(len(labels))] = np.repeat([TRAIN, VALIDATION, TEST], sizes)
    image = ImageSpec(range=(0.0, 255.0), margin=2 / 28)  # the longer side of most characters has 24 of 28 pixels
    return make_split("emnist", images, labels.astype(np.int64), tuple(map(str, characters)), image, part_N)


def emnist_file(name: str, data_dir: Path | None) -> Path:
    """`<data_dir>/emnist/<name>`. Raises DataError where it is not there, with how to make it."""
    if data_dir is not None and (path := data_dir / "emnist" / name).is_file():
        return path
    found = "no folder of data is given" if data_dir is None else f"{data_dir / 'emnist'} lacks {name}"
    raise DataError(
        f"EMNIST: {found}, and nothing is downloaded; make {name} as README.md says under EMNIST, put it into a folder "
        f"DIR/emnist and pass --data-dir DIR, or set STILLROOM_DATA=DIR"
    )


def _choose(path: Path, held: list[str]) -> list[str]:
    if not set(KEYS) <= set(held):
        raise DataError(f"{path} holds {', '.join(held) or 'nothing'}; expected {', '.join(KEYS)}")
    return list(KEYS)


def _check(path: Path, images: NDArray, labels: NDArray, characters: NDArray, expected: int) -> None:
    if images.shape != (expected, 28, 28) or labels.shape != (expected,):
        raise DataError(
            f"{path}: images have shape {list(images.shape)} and labels {list(labels.shape)}, expected "
            f"[{expected}, 28, 28] and [{expected}], the test part of EMNIST ByClass"
        )
    if images.dtype != np.uint8 or labels.dtype.kind not in "iu":
        raise DataError(
            f"{path}: images are of type {images.dtype} and labels of type {labels.dtype}, expected uint8 and integers"
        )
    if characters.ndim != 1 or characters.dtype.kind != "U":
        raise DataError(
            f"{path}: characters have shape {list(characters.shape)} and type {characters.dtype}, expected [K] of text"
        )
