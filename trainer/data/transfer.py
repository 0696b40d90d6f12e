"""Further inputs without labels, from which a student learns what its teacher says of them: the transfer set.

It knows which inputs fit a Split and are none of its held-out ones, not what is done with them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.errors import InputError
from service.inputs.images import decode_image
from trainer.data.arrays import read_npz
from trainer.data.emnist import UNLABELLED, emnist_file
from trainer.data.images import SUFFIXES
from trainer.data.split import Split
from trainer.data.tables import KINDS, SPLIT, feature_names, listed, numbers, read_table
from trainer.errors import DataError
from trainer.recipe import Recipe


class Transfer(NamedTuple):
    """Inputs [U, ...] without labels, and how many more there were that are validation or test examples."""

    inputs: NDArray
    left_out: int


def load_transfer(recipe: Recipe, folder: Path, data_dir: Path | None, split: Split) -> Transfer:
    """The inputs of the recipe's `transfer`, in the raw units of `split`; U is 0 where it names none.

    What equals a validation or test example is left out: what the student has learnt from can neither choose among its
    epochs nor say how good it is. `folder` is what its paths are relative to, `data_dir` where EMNIST lies. Raises
    DataError: unreadable, not like the inputs of `split`, or nothing is left.
    """
    if recipe.transfer is None:
        return Transfer(split.train.inputs[:0], 0)
    named = recipe.transfer == "emnist"
    path = emnist_file(UNLABELLED, data_dir) if named else _path(folder, recipe.transfer)
    try:
        inputs = _load(recipe, path, folder, split)
    except OSError as error:
        name = error.filename or recipe.transfer
        raise DataError(f"recipe {recipe.name}: cannot read {name}: {error.strerror}") from error
    _check_like(path, inputs, split)
    seen = _are_held_out(inputs, split)
    if seen.all():
        raise DataError(f"{path}: all {len(inputs)} inputs are validation or test examples, expected others")
    return Transfer(inputs[~seen], int(seen.sum()))


def _path(folder: Path, given: str) -> Path:
    return folder / os.path.expanduser(given)  # noqa: PTH111 - Path's raises where there is no such user


def _load(recipe: Recipe, path: Path, folder: Path, split: Split) -> NDArray:
    if path.suffix == ".npz":
        return _load_npz(path)
    if path.suffix in KINDS:
        return _load_table(path, _path(folder, recipe.data), recipe.label)
    if path.is_dir():
        return _load_folder(path, split)
    raise DataError(
        f"recipe {recipe.name}: no transfer set {recipe.transfer!r}: expected emnist, an .npz, .csv or .parquet file, "
        f"or a folder of images; {path} is none"
    )


def _load_npz(path: Path) -> NDArray:
    """`inputs` [U, ...], which public sets call `images`; `labels` may be there and are not looked at."""

    def choose(held: list[str]) -> list[str]:
        chosen = [name for name in held if name != "labels"]
        if chosen not in (["inputs"], ["images"]):
            raise DataError(
                f"{path} holds {', '.join(held) or 'nothing'}; expected inputs or images, and optionally labels, "
                f"which are not looked at"
            )
        return chosen

    (inputs,) = read_npz(path, choose, "`inputs`").values()
    return inputs


def _load_table(path: Path, data: Path, label: str) -> NDArray[np.float32]:
    """The features of the training table, found by name; columns of labels or of a split are not looked at."""
    if data.suffix not in KINDS:
        raise DataError(
            f"{path}: a table goes with a table, whose columns it has, but the data are {data}; expected an .npz file, "
            f"or a folder of images for images"
        )
    table, expected = read_table(path), feature_names(data, label)
    lacking = [name for name in expected if name not in table.column_names]
    foreign = [name for name in table.column_names if name not in (*expected, label, SPLIT)]
    if lacking or foreign:
        found = [f"lacks {listed(lacking)}"] * bool(lacking) + [f"has {listed(foreign)} besides"] * bool(foreign)
        raise DataError(f"{path} {' and '.join(found)}; expected the features of {data}: {listed(expected)}")
    return numbers(path, table, expected)


def _load_folder(folder: Path, split: Split) -> NDArray:
    """Images [U, H, W], as the front end reads them for the model that is to be trained."""
    if split.image is None:
        raise DataError(
            f"{folder}: a folder of images goes with images; the data hold {list(split.shape)} numbers each"
        )
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    folders = [entry.name for entry in entries if entry.is_dir()]
    files = [entry for entry in entries if entry.suffix.lower() in SUFFIXES]
    if folders or not files:
        found = f"holds the folders {listed(folders)}" if folders else "holds none"
        raise DataError(f"{folder} {found}; expected PNG or JPEG images side by side, for they have no classes")
    return np.stack([_picture(path, split) for path in files])


def _picture(path: Path, split: Split) -> NDArray:
    assert split.image is not None
    height, width = split.shape
    try:
        pixels = decode_image(path.read_bytes(), (height, width), split.image)
    except InputError as error:
        raise DataError(f"{path}: {error}") from error
    dtype = split.train.inputs.dtype
    return (np.rint(pixels) if dtype.kind in "iu" else pixels).astype(dtype)


def _check_like(path: Path, inputs: NDArray, split: Split) -> None:
    """A set in other units would teach the student nonsense without any error."""
    if inputs.ndim != 1 + len(split.shape) or inputs.shape[1:] != split.shape or not len(inputs):
        expected = ", ".join(map(str, ("U", *split.shape)))
        raise DataError(
            f"{path}: inputs have shape {list(inputs.shape)}, expected [{expected}], U at least 1, as the data"
        )
    if inputs.dtype.kind not in "fiub":
        raise DataError(f"{path}: inputs are of type {inputs.dtype}, expected numbers")
    known = split.train.inputs.dtype
    if (inputs.dtype == np.uint8) != (known == np.uint8):
        raise DataError(
            f"{path}: inputs are of type {inputs.dtype}, the data's of type {known}; expected uint8 for uint8 and for "
            f"nothing else, since 0 to 255 and 0 to 1 would pass for the same"
        )
    finite = np.concatenate([np.isfinite(rows).all(axis=1) for rows in _rows(inputs)])
    if not finite.all():
        raise DataError(
            f"{path}: {(~finite).sum()} inputs hold NaN or infinity as float32, the first is number {finite.argmin()}"
        )
    if split.image and not split.image.range[0] <= inputs.min() <= inputs.max() <= split.image.range[1]:
        low, high = split.image.range
        raise DataError(f"{path}: inputs go from {inputs.min()} to {inputs.max()}, expected {low:g} to {high:g}")


def _are_held_out(inputs: NDArray, split: Split) -> NDArray[np.bool_]:
    """Which of them [U] equal a validation or test example."""
    held_out = {row.tobytes() for part in (split.validation, split.test) for rows in _rows(part.inputs) for row in rows}
    return np.array([row.tobytes() in held_out for rows in _rows(inputs) for row in rows], dtype=np.bool_)


def _rows(inputs: NDArray) -> Iterator[NDArray[np.float32]]:
    """As float32 [n, D], some thousands at a time, so that no second copy of a large set is made."""
    for start in range(0, len(inputs), 4096):
        some = inputs[start : start + 4096]
        with np.errstate(over="ignore"):
            yield np.ascontiguousarray(some, dtype=np.float32).reshape(len(some), -1) + np.float32(0)  # makes -0 be 0
