"""Puts a model into the model repository, whole or not at all. models/README.md specifies what it writes.

It knows files and renames, not networks. A version is staged on the same file system, beside the repository; its
manifest comes last; the loader that will serve it loads it from there; then one rename makes it visible.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.errors import ModelError
from service.held_out import input_hashes
from service.manifest import GRAPH, HELD_OUT, MANIFEST, TRAIN_HASHES, FileRecord, Manifest, write_manifest
from service.model import load_model
from trainer.data.split import Part
from trainer.errors import ExportError

LABELS = "labels.txt"
MAX_BATCH = 1024
"""Rows that Triton may put into one batch."""


class Artefact(NamedTuple):
    """A model ready to be published: its graph, what that takes and gives, its test part, its training inputs [N, ...].

    `manifest` makes the manifest from the version's number and its files; `files` are further ones, by name.
    """

    name: str
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    graph: bytes
    held_out: Part
    train_inputs: NDArray
    manifest: Callable[[int, dict[str, FileRecord]], Manifest]
    files: Mapping[str, bytes] = MappingProxyType({})


class Version(NamedTuple):
    """The files of a version, by name, what its graph takes and gives, and its manifest's maker, as an Artefact has."""

    name: str
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    files: Mapping[str, bytes]
    manifest: Callable[[int, dict[str, FileRecord]], Manifest]


def publish(models_dir: Path, artefact: Artefact) -> Manifest:
    """Publishes an artefact as `publish_version` does."""
    held_out, hashes = io.BytesIO(), io.BytesIO()
    np.savez_compressed(held_out, inputs=artefact.held_out.inputs, labels=artefact.held_out.labels)
    np.save(hashes, input_hashes(artefact.train_inputs), allow_pickle=False)
    files = {GRAPH: artefact.graph, HELD_OUT: held_out.getvalue(), TRAIN_HASHES: hashes.getvalue(), **artefact.files}
    return publish_version(
        models_dir, Version(artefact.name, artefact.classes, artefact.shape, files, artefact.manifest)
    )


def publish_version(models_dir: Path, made: Version) -> Manifest:
    """Publishes the next version of a model and gives its manifest; what stood before stays as it was.

    Raises ExportError: the interface differs from the version that stands, the model does not load, the disk is full.
    """
    try:
        with _staging(models_dir) as staging:
            return _publish(models_dir, staging, made)
    except OSError as error:
        raise ExportError(
            f"cannot publish {made.name} in {models_dir}: {error.strerror or error}; what stood there is untouched"
        ) from error


def check_repository(models_dir: Path, names: Sequence[str], shape: tuple[int, ...], classes: tuple[str, ...]) -> None:
    """Raises ExportError where models of these names could not be published: better told before the training than
    after."""
    try:
        for name in names:
            _refuse_other_interface(models_dir / name, _interface(name, shape, classes))
        with _staging(models_dir) as staging:
            if staging.stat().st_dev != models_dir.stat().st_dev:
                raise ExportError(
                    f"cannot publish in {models_dir}: it is a mount of its own and versions are staged beside it; "
                    "mount the folder above it"
                )
    except OSError as error:
        raise ExportError(f"cannot publish in {models_dir}: {error.strerror or error}") from error


def _publish(models_dir: Path, staging: Path, made: Version) -> Manifest:
    interface = _interface(made.name, made.shape, made.classes)
    standing = models_dir / made.name
    _refuse_other_interface(standing, interface)
    folder = staging / made.name
    version = _next_version(standing)
    manifest = _write_version(folder / str(version), version, made)
    try:
        load_model(folder / str(version), device="cpu")
    except ModelError as error:
        raise ExportError(f"the exported model does not load: {error}") from error
    if _holds_something(standing):
        (folder / str(version)).rename(standing / str(version))
        _sync(standing)
    else:
        for name, text in interface.items():
            _write(folder / name, text.encode())
        folder.rename(standing)
    _sync(models_dir)
    return manifest


def _write_version(folder: Path, version: int, made: Version) -> Manifest:
    folder.mkdir(parents=True)
    records = {}
    for name, raw in made.files.items():
        _write(folder / name, raw)
        records[name] = FileRecord(bytes=len(raw), sha256=hashlib.sha256(raw).hexdigest())
    manifest = made.manifest(version, records)
    write_manifest(folder, manifest)
    _sync(folder / MANIFEST)
    _sync(folder)
    return manifest


def triton_config(name: str, shape: tuple[int, ...], classes: int) -> str:
    """`config.pbtxt`: what Triton and KServe need to serve the graph."""
    dims = ", ".join(map(str, shape))
    output = """  {{ name: "{}" data_type: TYPE_FP32 dims: [ {} ] label_filename: "labels.txt" }}"""
    return (
        f'name: "{name}"\n'
        'backend: "onnxruntime"\n'
        f"max_batch_size: {MAX_BATCH}\n"
        f'input [\n  {{ name: "input" data_type: TYPE_FP32 dims: [ {dims} ] }}\n]\n'
        f"output [\n{output.format('probabilities', classes)},\n{output.format('logits', classes)}\n]\n"
        "version_policy { all {} }\n"
        "dynamic_batching {}\n"
    )


def _interface(name: str, shape: tuple[int, ...], classes: tuple[str, ...]) -> dict[str, str]:
    """The files of a model's folder, by name, which its versions share."""
    labels = "".join(f"{label}\n" for label in classes)
    return {"config.pbtxt": triton_config(name, shape, len(classes)), LABELS: labels}


def _holds_something(folder: Path) -> bool:
    """An empty folder is as good as none: a rename replaces it."""
    return folder.exists() and any(folder.iterdir())


def _refuse_other_interface(standing: Path, interface: dict[str, str]) -> None:
    for name, text in interface.items() if _holds_something(standing) else ():
        if not (standing / name).exists():
            raise ExportError(f"{standing}: it has no {name}, so it is no model's folder; move it away")
        if (standing / name).read_bytes() != text.encode():
            raise ExportError(
                f"{standing.name}: the interface changed: its {name} is not the one that stands; choose another name"
            )


def _next_version(standing: Path) -> int:
    versions = [int(entry.name) for entry in standing.glob("*") if re.fullmatch("[0-9]+", entry.name)]
    return max(versions, default=0) + 1


@contextmanager
def _staging(models_dir: Path) -> Iterator[Path]:
    """A folder on the repository's file system but outside of it; one publisher at a time."""
    models_dir.mkdir(parents=True, exist_ok=True)
    root = models_dir.resolve().parent / f".{models_dir.resolve().name}.staging"
    root.mkdir(exist_ok=True)
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in root.glob("*/"):  # by processes that were killed
            shutil.rmtree(left, ignore_errors=True)
        folder = root / str(os.getpid())
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _write(path: Path, raw: bytes) -> None:
    path.write_bytes(raw)
    _sync(path)


def _sync(path: Path) -> None:
    """Makes a file or a folder's entries durable: a rename must not become visible before what it names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
