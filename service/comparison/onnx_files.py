"""Makes subjects of a comparison from any ONNX files, without manifest or trainer. It knows files, no repository."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from service.comparison.subject import Subject
from service.comparison.subjects import RESIDENT_ROWS, load
from service.errors import ModelError
from service.foreign.answers import wrap
from service.foreign.counts import multiply_accumulates, parameters
from service.foreign.open import declared_classes, expect_classes
from service.model import OUTPUTS, Prediction
from service.session import Device, open_session, start_runtime

PROOF = 100
"""Examples from which it is read off what a file's outputs are."""


@dataclass(frozen=True)
class _Graph:
    """A session over a standard graph."""

    session: onnxruntime.InferenceSession

    def run(self, inputs: NDArray[np.float32]) -> Prediction:
        return Prediction(*self.session.run(OUTPUTS, {"input": inputs}))


def of_files(
    paths: Sequence[Path], inputs: NDArray[np.float32], classes: Sequence[str] | None, device: Device, threads: int
) -> list[Subject]:
    """The files as models of those classes, else of the classes that the first declares; of inputs [N, ...].

    Raises ModelError, naming the file, where it cannot be read or where it would take a guess to say what it answers.
    """
    raws = [_read(path) for path in paths]
    known = classes or expect_classes(declared_classes(raws[0], str(paths[0])), raws[0], str(paths[0]))
    start_runtime(device, threads, RESIDENT_ROWS)
    named = zip(paths, raws, names_of(paths), strict=True)
    return [_subject(path, raw, name, inputs, known, device, threads) for path, raw, name in named]


def names_of(paths: Sequence[Path]) -> list[str]:
    """What tells the files apart: their stems, with as many folders before them as that takes."""
    parts = [path.with_suffix("").parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(set(paths)):
            break
    return names


def _subject(
    path: Path,
    raw: bytes,
    name: str,
    inputs: NDArray[np.float32],
    classes: Sequence[str],
    device: Device,
    threads: int,
) -> Subject:
    graph = wrap(raw, inputs[:PROOF], classes, str(path))
    rows = np.resize(inputs, (RESIDENT_ROWS, *inputs.shape[1:]))
    answering, loaded = load(lambda: _Graph(open_session(graph, device=device, threads=threads)), rows)
    return Subject(
        name=name,
        version=None,
        role="file",
        classes=classes,
        shape=inputs.shape[1:],
        answering=answering,
        sha256=hashlib.sha256(raw).hexdigest(),
        parameters=parameters(graph),
        multiply_accumulates=multiply_accumulates(graph),
        bytes=len(raw),
        provider_asked=device,
        provider=answering.session.get_providers()[0],
        threads=threads,
        loaded=loaded,
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}, expected an ONNX file") from error
