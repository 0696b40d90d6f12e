"""An ONNX file as a teacher: what its answers mean, whether the standard graph around it answers the same.

It knows answers, labels and what an export says of itself, not how a graph is rewired, nor the model repository.
Legend: N inputs, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service import measures
from service.foreign.answers import BATCH, Floats, choose, in_batches
from service.foreign.counts import multiply_accumulates, parameters
from service.foreign.labels import labels_of
from service.foreign.wrap import Choice, Source, build, read_source
from service.measures import FLOOR
from service.session import open_session
from trainer.errors import ExportError
from trainer.export import TOLERANCE, Exported, cpu_milliseconds


class OnnxTeacher:
    """A wrapped graph that answers with log-probabilities, as an ensemble does."""

    def __init__(self, graph: bytes) -> None:
        self.graph = graph
        self._session = open_session(graph, device="cpu", threads=0)  # 0: every core, nothing is timed here

    def predict(self, inputs: NDArray[np.float32]) -> Tensor:
        """log p, float32 [N, K], clamped, at temperature 1 for raw inputs [N, ...]."""
        logits = in_batches(lambda rows: self._session.run(["logits"], {"input": rows})[0], inputs)
        return torch.from_numpy(logits).log_softmax(dim=-1).clamp(min=FLOOR)


def read_teacher(path: Path, inputs: NDArray[np.float32], classes: Sequence[str]) -> Exported:
    """The standard graph around a file, proved against the file on real inputs [N, ...]. Raises ExportError."""
    place, shape = str(path), inputs.shape[1:]
    raw = _read(path)
    source = read_source(raw, shape, place)
    choice = choose(source, inputs, classes, place)
    graph = build(source, choice, shape, len(classes), place)
    return Exported(
        graph=graph,
        largest_difference=prove(graph, raw_answers(raw, source, choice, inputs), inputs, place),
        parameters=parameters(graph),
        multiply_accumulates=multiply_accumulates(graph),
        cpu_ms=cpu_milliseconds(graph, inputs[:1]),
    )


def raw_answers(raw: bytes, source: Source, choice: Choice, inputs: NDArray[np.float32]) -> Floats:
    """Probabilities [N, K] of the untouched file, its ZipMaps included, worked out in numpy."""
    session = open_session(raw, device="cpu", threads=0)
    labels = labels_of(source.proto.graph, choice.output)
    table = in_batches(lambda x: _table(session.run([choice.output], source.feed(x))[0], labels), inputs)
    if choice.kind == "column":
        table = np.stack([1 - table.reshape(-1), table.reshape(-1)], axis=1)
    if choice.kind == "logits":
        table = np.exp(measures.log_softmax(table))
    return table[:, choice.order] / table.sum(axis=1, keepdims=True)


def prove(graph: bytes, expected_NK: Floats, inputs: NDArray[np.float32], place: str) -> float:
    """The largest absolute difference of a probability, from `probabilities` and from `logits`, over inputs [N, ...].

    The graph is asked for one row, for two, then for many: a batch size fixed somewhere inside shows. Raises
    ExportError above TOLERANCE.
    """
    session = open_session(graph, device="cpu", threads=0)
    try:
        both = in_batches(lambda x: np.stack(session.run(None, {"input": x}), axis=1), inputs, first=(1, 2))
    except Exception as error:  # onnxruntime's own exceptions share no other base class
        raise ExportError(f"{place}: it does not answer every number of rows (1, 2, {BATCH}): {error}") from error
    found = np.stack([both[:, 0], np.exp(measures.log_softmax(both[:, 1]))])
    difference = float(np.abs(found - expected_NK).max())
    if not difference <= TOLERANCE:  # NaN must not pass
        raise ExportError(
            f"{place}: the standard graph differs from the file by {difference:.2g}, at most {TOLERANCE} is allowed"
        )
    return difference


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        available = ", ".join(sorted(file.name for file in path.parent.glob("*.onnx"))) or "no .onnx file there"
        raise ExportError(f"{path}: {error.strerror}; expected an ONNX file; available: {available}") from error


def _table(answer: Any, labels: Sequence[str] | None) -> Floats:
    """What an output gives as float64 [N, K]; of a ZipMap, one map a row, in the order of its labels."""
    if isinstance(answer, list):
        rows = [{str(label): value for label, value in row.items()} for row in answer]
        return np.array([[row[label] for label in labels or row] for row in rows], dtype=np.float64)
    return np.asarray(answer, dtype=np.float64)
