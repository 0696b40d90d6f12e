"""One file per kind of data; all give a Split, but for the transfer set, which has no labels to split by."""

from __future__ import annotations

import os
from pathlib import Path

from trainer.data.arrays import load_npz
from trainer.data.digits import load_digits
from trainer.data.emnist import load_emnist
from trainer.data.images import load_folder
from trainer.data.mnist import load_mnist
from trainer.data.split import Part, Shares, Split
from trainer.data.tables import KINDS as TABLES
from trainer.data.tables import load_table
from trainer.data.transfer import load_transfer
from trainer.display import Display
from trainer.errors import DataError
from trainer.recipe import Recipe
from trainer.speech.corpus import CORPORA, read_corpus

__all__ = ["Part", "Split", "load_data", "load_transfer"]


def load_data(recipe: Recipe, folder: Path, data_dir: Path | None, display: Display | None = None) -> Split:
    """The data that a recipe names; `folder` is what its paths are relative to, `data_dir` where named sets lie.

    A display shows how far the recordings of a corpus are. Raises DataError.
    """
    try:
        return _load(recipe, folder, data_dir, display)
    except OSError as error:
        raise DataError(
            f"recipe {recipe.name}: cannot read {error.filename or recipe.data}: {error.strerror}"
        ) from error


def _load(recipe: Recipe, folder: Path, data_dir: Path | None, display: Display | None) -> Split:
    shares = Shares(recipe.validation, recipe.test, recipe.split_seed)
    if recipe.data == "digits":
        return load_digits(shares)
    if recipe.data == "mnist":
        return load_mnist(data_dir, shares)
    if recipe.data == "emnist":
        return load_emnist(data_dir)
    if recipe.data in CORPORA:
        from trainer.speech.frames import load_speech  # which is made of this package's splits

        return load_speech(read_corpus(recipe.data, data_dir), display)
    path = folder / os.path.expanduser(recipe.data)  # noqa: PTH111 - Path's raises where there is no such user
    if path.suffix == ".npz":
        return load_npz(path, shares)
    if path.suffix in TABLES:
        return load_table(path, recipe.label, shares)
    if path.is_dir():
        return load_folder(path, recipe.image_size, shares)
    raise DataError(
        f"recipe {recipe.name}: no data {recipe.data!r}: expected digits, mnist, emnist, {', '.join(CORPORA)}, "
        f"an .npz, .csv or .parquet file, or a folder with one folder of images per class; {path} is none"
    )
