"""What the answers of an ONNX file mean: which output is the distribution or the logits of the classes.

It knows answers and what they look like, not how a graph is rewired, nor the model repository.
Legend: N inputs, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from service.errors import ModelError
from service.foreign.labels import column_order, labels_of
from service.foreign.wrap import FLOATS, INTEGERS, Choice, Kind, Source, build, describe, read_source, shape_text
from service.session import open_session

Floats = NDArray[np.floating]
SUM_TOLERANCE = 1e-3  # float16 rows sum to 1 within that
BATCH = 1024


def wrap(raw: bytes, inputs: NDArray[np.float32], classes: Sequence[str], place: str) -> bytes:
    """The standard graph around a file's bytes. What its outputs mean is read off its answers to inputs [N, ...].

    Raises ModelError, its text beginning with `place`, where that cannot be done without a guess.
    """
    source = read_source(raw, inputs.shape[1:], place)
    return build(source, choose(source, inputs, classes, place), inputs.shape[1:], len(classes), place)


def choose(source: Source, inputs: NDArray[np.float32], classes: Sequence[str], place: str) -> Choice:
    """The one output that gives a distribution or logits of the classes. Raises ModelError where none or many do."""
    if source.kind in INTEGERS and not np.array_equal(inputs, source.feed(inputs)[source.input].reshape(inputs.shape)):
        raise ModelError(f"{place}: takes {describe(source.proto.graph.input)}, but the inputs are not such numbers")
    answers = _answers(source, inputs, place)
    wide = {name: rows for name, rows in answers.items() if rows.shape == (len(inputs), len(classes))}
    if not wide and len(classes) == 2:
        wide = {name: rows for name, rows in answers.items() if rows.shape in ((len(inputs), 1), (len(inputs),))}
    if not wide:
        found = describe(source.proto.graph.output)
        raise ModelError(f"{place}: no output is float [B, {len(classes)}], one column a class; it gives {found}")
    kinds = {name: _kind(rows, name, place) for name, rows in wide.items()}
    likely = [name for name, kind in kinds.items() if kind != "logits"] or list(kinds)
    if len(likely) > 1:
        raise ModelError(f"{place}: ambiguous: each of {', '.join(likely)} could be the answer, expected one")
    labels = labels_of(source.proto.graph, likely[0])
    return Choice(likely[0], kinds[likely[0]], column_order(labels, classes, place))


def in_batches(run: Callable[[Floats], Floats], inputs: Floats, first: Sequence[int] = ()) -> Floats:
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
        raise ModelError(
            f"{place}: onnxruntime cannot run it on {shape_text('N', inputs.shape[1:])}: {error}"
        ) from error


def _kind(rows: Floats, name: str, place: str) -> Kind:
    """What an output's numbers are. Raises ModelError where they could be two things."""
    numbers = rows.astype(np.float64)
    if bad := int((~np.isfinite(numbers.reshape(len(rows), -1)).all(axis=1)).sum()):
        raise ModelError(f"{place}: output {name} is not finite (NaN or infinite) on {bad} of {len(rows)} inputs")
    within = bool((numbers >= -SUM_TOLERANCE).all() and (numbers <= 1 + SUM_TOLERANCE).all())
    if rows.ndim == 1 or rows.shape[1] == 1:
        if within:
            return "column"
        raise ModelError(f"{place}: output {name} is one column with values outside 0 to 1, expected probabilities")
    if within and np.allclose(numbers.sum(axis=1), 1, rtol=0, atol=SUM_TOLERANCE):
        return "probabilities"
    if within or "prob" in name.lower():
        sums = numbers.sum(axis=1)
        raise ModelError(
            f"{place}: ambiguous: output {name} looks like probabilities, but its rows sum to {sums.min():.3g} to "
            f"{sums.max():.3g}, expected 1"
        )
    return "logits"
