"""An ONNX file as a teacher: what its answers mean, whether the standard graph around it answers the same.

It knows answers, labels and what an export says of itself, not how a graph is rewired, nor the model repository.
Legend: N inputs, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import Tensor

from service import measures
from service.model import open_session
from trainer.ensemble import FLOOR
from trainer.errors import ExportError
from trainer.export import TOLERANCE, Exported, cpu_milliseconds
from trainer.onnx_counts import multiply_accumulates, parameters
from trainer.onnx_labels import column_order, labels_of
from trainer.onnx_wrap import FLOATS, INTEGERS, Choice, Kind, Source, build, describe, read_source, shape_text

Floats = NDArray[np.floating]
SUM_TOLERANCE = 1e-3  # float16 rows sum to 1 within that
BATCH = 1024


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


def wrap(raw: bytes, inputs: NDArray[np.float32], classes: Sequence[str], place: str) -> bytes:
    """The standard graph around a file's bytes. What its outputs mean is read off its answers to inputs [N, ...].

    Raises ExportError, its text beginning with `place`, where that cannot be done without a guess.
    """
    source = read_source(raw, inputs.shape[1:], place)
    return build(source, choose(source, inputs, classes, place), inputs.shape[1:], len(classes), place)


def choose(source: Source, inputs: NDArray[np.float32], classes: Sequence[str], place: str) -> Choice:
    """The one output that gives a distribution or logits of the classes. Raises ExportError where none or many do."""
    if source.kind in INTEGERS and not np.array_equal(inputs, source.feed(inputs)[source.input].reshape(inputs.shape)):
        raise ExportError(f"{place}: takes {describe(source.proto.graph.input)}, but the inputs are not such numbers")
    answers = _answers(source, inputs, place)
    wide = {name: rows for name, rows in answers.items() if rows.shape == (len(inputs), len(classes))}
    if not wide and len(classes) == 2:
        wide = {name: rows for name, rows in answers.items() if rows.shape in ((len(inputs), 1), (len(inputs),))}
    if not wide:
        found = describe(source.proto.graph.output)
        raise ExportError(f"{place}: no output is float [B, {len(classes)}], one column a class; it gives {found}")
    kinds = {name: _kind(rows, name, place) for name, rows in wide.items()}
    likely = [name for name, kind in kinds.items() if kind != "logits"] or list(kinds)
    if len(likely) > 1:
        raise ExportError(f"{place}: ambiguous: each of {', '.join(likely)} could be the answer, expected one")
    labels = labels_of(source.proto.graph, likely[0])
    return Choice(likely[0], kinds[likely[0]], column_order(labels, classes, place))


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


def in_batches(run: Callable[[NDArray], NDArray], inputs: NDArray, first: Sequence[int] = ()) -> NDArray:
    """What `run` gives for inputs [N, ...], some rows at a time; `first` are the sizes of the first batches."""
    sizes = [*first, *[BATCH] * math.ceil(len(inputs) / BATCH)]
    starts = np.cumsum([0, *sizes[:-1]])
    parts = [inputs[start : start + size] for start, size in zip(starts, sizes, strict=True)]
    return np.concatenate([run(part) for part in parts if len(part)])


def _answers(source: Source, inputs: NDArray[np.float32], place: str) -> dict[str, Floats]:
    """Each float tensor behind an output of the file, [N, ...], over the inputs."""
    proto = onnx.ModelProto()
    proto.CopyFrom(source.proto)
    del proto.graph.output[:], proto.graph.value_info[:]
    plain = {v.name: v.type.tensor_type.elem_type for v in source.proto.graph.output if v.type.HasField("tensor_type")}
    floats = [o for o, tensor in source.tensors.items() if o != tensor or plain.get(o) in FLOATS]
    unique = {source.tensors[o]: plain.get(o, TensorProto.FLOAT) for o in floats}
    if not floats:
        return {}
    proto.graph.output.extend(helper.make_tensor_value_info(name, kind, None) for name, kind in unique.items())
    kept = [node for node in proto.graph.node if node.op_type != "ZipMap"]
    del proto.graph.node[:]
    proto.graph.node.extend(kept)
    names = list(unique)
    try:
        session = open_session(proto.SerializeToString(), device="cpu", threads=0)
        batches = [session.run(names, source.feed(inputs[i : i + BATCH])) for i in range(0, len(inputs), BATCH)]
        return {
            o: np.concatenate([np.atleast_1d(batch[names.index(source.tensors[o])]) for batch in batches])
            for o in floats
        }
    except Exception as error:  # onnxruntime's own exceptions share no other base class
        raise ExportError(
            f"{place}: onnxruntime cannot run it on {shape_text('N', inputs.shape[1:])}: {error}"
        ) from error


def _kind(rows: Floats, name: str, place: str) -> Kind:
    """What an output's numbers are. Raises ExportError where they could be two things."""
    numbers = rows.astype(np.float64)
    if bad := int((~np.isfinite(numbers.reshape(len(rows), -1)).all(axis=1)).sum()):
        raise ExportError(f"{place}: output {name} is not finite (NaN or infinite) on {bad} of {len(rows)} inputs")
    within = bool((numbers >= -SUM_TOLERANCE).all() and (numbers <= 1 + SUM_TOLERANCE).all())
    if rows.ndim == 1 or rows.shape[1] == 1:
        if within:
            return "column"
        raise ExportError(f"{place}: output {name} is one column with values outside 0 to 1, expected probabilities")
    if within and np.allclose(numbers.sum(axis=1), 1, rtol=0, atol=SUM_TOLERANCE):
        return "probabilities"
    if within or "prob" in name.lower():
        sums = numbers.sum(axis=1)
        raise ExportError(
            f"{place}: ambiguous: output {name} looks like probabilities, but its rows sum to {sums.min():.3g} to "
            f"{sums.max():.3g}, expected 1"
        )
    return "logits"


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
