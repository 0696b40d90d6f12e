"""A run's folder: checkpoints, soft targets, tables and plots of one recipe, seed, data set and device.

It knows folders, not what is in them. The same command finds the same folder again; an unfinished run is never lost.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from trainer.errors import RunError
from trainer.recipe import Recipe

RESULTS = "results.json"
"""Written when everything else is: a run with results is finished."""


def run_name(recipe: Recipe, *, data_sha256: str, seed: int, device: str, kind: str = "") -> str:
    """`<recipe><kind>-seed<S>-<hash>`: whatever the weights depend on is in the hash."""
    return run_name_of(f"{recipe.name}{kind}-seed{seed}", [recipe.model_dump(mode="json"), data_sha256, seed, device])


def run_name_of(title: str, facts: list[Any]) -> str:
    """`<title>-<hash>`, of JSON-able facts and of the version of PyTorch."""
    digest = hashlib.sha256(json.dumps([*facts, torch.__version__], sort_keys=True).encode()).hexdigest()
    return f"{title}-{digest[:10]}"


@contextmanager
def open_run(runs_dir: Path, name: str, *, resume: bool) -> Iterator[Path]:
    """The folder of a run, locked against a second trainer; empty unless `resume`.

    An unfinished run that is not resumed is kept as `<name>.previous-1`, -2 and so on. Raises RunError where another
    trainer has it or it cannot be made.
    """
    folder = runs_dir / name
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        lock = (runs_dir / f".{name}.lock").open("w")
    except OSError as error:
        raise RunError(f"cannot use the runs folder {runs_dir}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(f"another trainer is at work on the run {folder}") from error
        try:
            if not resume and folder.exists():
                _set_aside(folder)
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot use the run's folder {folder}: {error.strerror}") from error
        yield folder


def _set_aside(folder: Path) -> None:
    if (folder / RESULTS).exists() or not any(folder.iterdir()):
        shutil.rmtree(folder)  # a finished run comes out the same again
    else:
        numbers = (number for number in itertools.count(1) if not _previous(folder, number).exists())
        folder.rename(_previous(folder, next(numbers)))


def _previous(folder: Path, number: int) -> Path:
    return folder.with_name(f"{folder.name}.previous-{number}")
