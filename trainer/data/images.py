"""A folder with one folder of images per class, read by the very front end that serves them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from service.errors import InputError
from service.inputs.images import decode_image
from service.manifest import ImageSpec
from trainer.data.split import Shares, Split, make_split, stratified
from trainer.errors import DataError

SUFFIXES = {".png", ".jpg", ".jpeg"}
IMAGE = ImageSpec(range=(0.0, 255.0))


def load_folder(folder: Path, size: tuple[int, int], shares: Shares) -> Split:
    """Inputs uint8 [N, *size], greyed and scaled; the classes are the names of the folders, sorted.

    Raises DataError: no folders, a folder without images, a file that is no image.
    """
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    files = [(path, label) for label, name in enumerate(classes) for path in sorted((folder / name).iterdir())]
    files = [(path, label) for path, label in files if path.suffix.lower() in SUFFIXES]
    labels = np.array([label for _, label in files], dtype=np.int64)
    empty = [name for label, name in enumerate(classes) if label not in labels]
    if not classes or empty:
        found = f"{', '.join(empty)} hold none" if empty else "there are no folders"
        raise DataError(f"{folder}: expected one folder of PNG or JPEG images per class; {found}")
    images = np.stack([_read(path, size) for path, _ in files])
    return make_split(folder.name, images, labels, tuple(classes), IMAGE, stratified(folder.name, labels, shares))


def _read(path: Path, size: tuple[int, int]) -> np.ndarray:
    try:
        return np.rint(decode_image(path.read_bytes(), size, IMAGE)).astype(np.uint8)
    except (OSError, InputError) as error:
        raise DataError(f"{path}: {error}") from error
