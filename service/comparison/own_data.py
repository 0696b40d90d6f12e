"""The user's own examples, from a file or a folder: .npz, CSV, images or recordings. It knows files, not models.

Labels are optional everywhere: without them nothing is said of accuracy.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.errors import InputError
from service.inputs.images import decode_image
from service.inputs.recordings import decode_recording
from service.manifest import AudioSpec, ImageSpec

PICTURES, SOUNDS = {".png", ".jpg", ".jpeg"}, {".wav", ".flac"}
LABEL = "label"
GREY = ImageSpec(range=(0.0, 255.0))


@dataclass(frozen=True)
class Examples:
    """Inputs float32 [N, ...]; each one's label, a class or its index, and all classes, where the data tell them."""

    inputs: NDArray[np.float32]
    labels: Sequence[str | int] | None
    classes: Sequence[str] | None


def read_examples(
    path: Path,
    shape: tuple[int, ...] | None,
    *,
    label: str = LABEL,
    image: ImageSpec | None = None,
    audio: AudioSpec | None = None,
) -> Examples:
    """The examples in `path`, of that shape where it is known: a file's flat rows are shaped to it.

    An .npz has `inputs` [N, ...], and optionally `labels` [N] (text, or whole numbers: the index of a class) and
    `classes` [K]; a CSV a header, the label in column `label` if there is one and numbers in all others; a folder has
    images, or recordings where `audio` is given, or a folder of them for each class. Raises InputError.
    """
    if path.is_dir():
        found = _read_folder(path, shape, audio or image or GREY)
    elif path.suffix == ".npz":
        found = _read_npz(path)
    elif path.suffix == ".csv":
        found = _read_csv(path, label)
    else:
        raise InputError(f"{path}: expected an .npz file, a .csv file or a folder of images or recordings")
    inputs = _shaped(found.inputs, shape, path)
    if not np.isfinite(inputs).all():
        raise InputError(f"{path}: holds NaN, infinity or numbers beyond float32, expected finite numbers")
    return Examples(inputs, found.labels, found.classes)


def draw(examples: Examples, limit: int | None, seed: int) -> Examples:
    """All of them, or as many as that, drawn at random without replacement."""
    count = len(examples.inputs)
    if limit is None or limit >= count:
        return examples
    drawn = np.random.default_rng(seed).choice(count, size=limit, replace=False)
    labels = None if examples.labels is None else [examples.labels[index] for index in drawn]
    return Examples(examples.inputs[drawn], labels, examples.classes)


def fitted(examples: Examples, classes: Sequence[str]) -> Examples:
    """With labels that are whole numbers where they came as text, as in a CSV, and no class has such a name."""
    labels = examples.labels
    if labels is None or any(label in classes for label in labels):
        return examples
    if not all(isinstance(label, str) and label.isascii() and label.isdecimal() for label in labels):
        return examples
    return Examples(examples.inputs, [int(label) for label in labels], examples.classes)


def _shaped(inputs: NDArray[np.float32], shape: tuple[int, ...] | None, path: Path) -> NDArray[np.float32]:
    if not len(inputs):
        raise InputError(f"{path}: holds no examples")
    own = inputs.shape[1:]
    if shape is None or own == shape:
        return inputs
    if len(own) == 1 and own[0] == math.prod(shape):
        return inputs.reshape(len(inputs), *shape)
    raise InputError(f"{path}: examples have shape {list(own)}, the models take {list(shape)}")


def _read_npz(path: Path) -> Examples:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("inputs", "labels", "classes") if name in file.files}
            names = ", ".join(file.files)
    except Exception as error:  # numpy and zipfile raise a dozen kinds on what is no .npz
        raise InputError(f"{path}: is no .npz file of plain arrays: {error}") from error
    if "inputs" not in arrays:
        raise InputError(f"{path}: holds {names or 'nothing'}, expected inputs and optionally labels, classes")
    inputs, labels, classes = arrays["inputs"], arrays.get("labels"), arrays.get("classes")
    if inputs.ndim < 2 or inputs.dtype.kind not in "iufb":
        raise InputError(f"{path}: inputs are {inputs.dtype} {list(inputs.shape)}, expected numbers [N, ...]")
    if labels is not None and (labels.shape != inputs.shape[:1] or labels.dtype.kind not in "iuU"):
        raise InputError(
            f"{path}: labels are {labels.dtype} {list(labels.shape)}, expected [{len(inputs)}] whole numbers or text"
        )
    known = None if classes is None else _names(classes, path)
    return Examples(_float32(inputs), None if labels is None else _named(labels, known, path), known)


def _names(classes: NDArray[np.generic], path: Path) -> list[str]:
    if classes.ndim != 1 or classes.dtype.kind not in "UiuS":
        raise InputError(f"{path}: classes are {classes.dtype} {list(classes.shape)}, expected [K] names as text")
    names = [name.decode("latin-1") if isinstance(name, bytes) else str(name) for name in classes.tolist()]
    if len(set(names)) < len(names):
        raise InputError(f"{path}: two classes have the same name, expected K names that differ")
    return names


def _named(labels: NDArray[np.generic], classes: Sequence[str] | None, path: Path) -> list[str | int]:
    """Text as it is; a whole number, which is the index of a class, by the class's name where classes are given."""
    if labels.dtype.kind == "U" or classes is None or not len(labels):
        return list(labels.tolist())
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(classes):
        raise InputError(f"{path}: labels go from {low} to {high}, expected 0 to {len(classes) - 1}")
    return [classes[label] for label in labels.tolist()]


def _read_csv(path: Path, label: str) -> Examples:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *rows = [row for row in csv.reader(file) if row] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV: {error}") from error
    at = header.index(label) if label in header else None
    numbers: list[list[float]] = []
    for line, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise InputError(f"{path}: row {line} has {len(row)} values, the header has {len(header)}")
        numbers.append([_number(value, path, line) for column, value in enumerate(row) if column != at])
    inputs = _float32(np.array(numbers, dtype=np.float64).reshape(len(rows), len(header) - (at is not None)))
    return Examples(inputs, None if at is None else [row[at] for row in rows], None)


def _number(value: str, path: Path, line: int) -> float:
    try:
        return float(value)
    except ValueError:
        raise InputError(
            f"{path}: row {line} holds {value[:40]!r}, expected numbers in every column but the label's (--label)"
        ) from None


def _read_folder(path: Path, shape: tuple[int, ...] | None, spec: ImageSpec | AudioSpec) -> Examples:
    if shape is None or len(shape) != 2:
        raise InputError(f"{path}: is a folder of images, but the models take {shape}, expected [height, width]")
    suffixes, what = (
        (SOUNDS, "WAV or FLAC recordings") if isinstance(spec, AudioSpec) else (PICTURES, "PNG or JPEG images")
    )
    folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    files = [(file, folder.name) for folder in folders or [path] for file in sorted(folder.iterdir())]
    files = [(file, name) for file, name in files if file.suffix.lower() in suffixes]
    if not files:
        raise InputError(f"{path}: holds no {what}, nor folders of them")
    inputs = np.stack([_decoded(file, (shape[0], shape[1]), spec) for file, _ in files])
    return Examples(inputs, [name for _, name in files] if folders else None, None)


def _decoded(file: Path, size: tuple[int, int], spec: ImageSpec | AudioSpec) -> NDArray[np.float32]:
    try:
        if isinstance(spec, AudioSpec):
            return decode_recording(file.read_bytes(), size, spec)
        return decode_image(file.read_bytes(), size, spec)
    except (OSError, InputError) as error:
        raise InputError(f"{file}: {error}") from error


def _float32(numbers: NDArray[np.generic]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return numbers.astype(np.float32)
