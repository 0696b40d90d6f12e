"""The graph of an ONNX file of any origin, read and rewired to `input` -> `probabilities`, `logits` (models/README.md).

It knows operators and tensors, not what a graph answers, files or the model repository.
Legend: B batch (free), N inputs, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import onnx
import onnx.inliner
from numpy.typing import ArrayLike, NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from service.errors import ModelError
from service.measures import FLOOR
from service.session import check_graph

Kind = Literal["probabilities", "logits", "column"]

FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16)
INTEGERS = (TensorProto.INT64, TensorProto.INT32, TensorProto.INT16, TensorProto.INT8, TensorProto.UINT8)
OLDEST_OPSET = 8
"""The first whose Max broadcasts; every other operator added here means the same from there on."""
OPSET = 13  # where a file imports ai.onnx.ml alone
IR_VERSION = 8  # at least: before 4 an initializer has to be an input, too
PREFIX = "teacher/"


class Source(NamedTuple):
    """A checked file: its graph without ZipMaps, its one input, and which of its tensors each output is.

    `shape` is what the input is reshaped to, [-1, ...]; None where it takes the data's shape.
    """

    proto: onnx.ModelProto
    input: str
    kind: int
    shape: tuple[int, ...] | None
    tensors: dict[str, str]

    def feed(self, inputs: NDArray[np.float32]) -> dict[str, NDArray[np.generic]]:
        """What the file itself takes for inputs [N, ...]."""
        shaped = inputs if self.shape is None else inputs.reshape(self.shape)
        return {self.input: shaped.astype(helper.tensor_dtype_to_np_dtype(self.kind))}


class Choice(NamedTuple):
    """The output that holds the answer, what its numbers are, and for each class its column."""

    output: str
    kind: Kind
    order: list[int]


def read_source(raw: bytes, shape: tuple[int, ...], place: str) -> Source:
    """Parses and checks a file that is to take [B, *shape]. Raises ModelError."""
    try:
        proto = onnx.load_model_from_string(raw)
    except Exception as error:  # protobuf's DecodeError, which onnx does not re-export
        raise ModelError(f"{place}: not an ONNX file: {error}") from error
    if not proto.graph.node:
        raise ModelError(f"{place}: not an ONNX file: {len(raw)} bytes without an operator")
    proto = onnx.inliner.inline_local_functions(proto) if proto.functions else proto
    check_graph(proto.SerializeToString(), place)
    opset = max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=OPSET)
    if opset < OLDEST_OPSET:
        raise ModelError(f"{place}: opset {opset} of ai.onnx, expected {OLDEST_OPSET} or later; export it again")
    value = _only_input(proto.graph, shape, place)
    kind = value.type.tensor_type.elem_type
    return Source(proto, value.name, kind, _target(value, shape, place), _behind_zipmaps(proto.graph))


def build(source: Source, choice: Choice, shape: tuple[int, ...], classes: int, place: str) -> bytes:
    """The standard graph's bytes; nothing of the file but the operators and numbers that its answer needs.

    Raises ModelError."""
    proto = onnx.compose.add_prefix(source.proto, PREFIX)
    body, weights = _needed(proto.graph, PREFIX + source.tensors[choice.output])
    front, front_weights = _front(source)
    tail, tail_weights = _tail(PREFIX + source.tensors[choice.output], choice)
    graph = helper.make_graph(
        [*front, *body, *tail],
        "teacher",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", *shape])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", classes]) for n in ("probabilities", "logits")],
        [*weights, *front_weights, *tail_weights],
    )
    opsets = {("" if o.domain == "ai.onnx" else o.domain): o.version for o in proto.opset_import}
    imports = [helper.make_opsetid(domain, version) for domain, version in sorted(({"": OPSET} | opsets).items())]
    made = helper.make_model(graph, opset_imports=imports, ir_version=max(proto.ir_version, IR_VERSION))
    try:
        onnx.checker.check_model(made)
        wrapped = bytes(made.SerializeToString(deterministic=True))
        check_graph(wrapped, place)
    except (onnx.checker.ValidationError, ModelError) as error:
        raise ModelError(f"{place}: the standard graph around it is refused: {error}") from error
    return wrapped


def _only_input(graph: onnx.GraphProto, shape: tuple[int, ...], place: str) -> onnx.ValueInfoProto:
    given = {tensor.name for tensor in graph.initializer}
    asked = [value for value in graph.input if value.name not in given]
    if len(asked) != 1:
        wanted = f"expected one, {shape_text('B', shape)}"
        raise ModelError(f"{place}: takes {len(asked)} inputs ({describe(asked)}), {wanted}")
    if asked[0].type.tensor_type.elem_type not in (*FLOATS, *INTEGERS):
        raise ModelError(f"{place}: takes {describe(asked)}, expected numbers (float or integer)")
    found: onnx.ValueInfoProto = asked[0]
    return found


def _target(value: onnx.ValueInfoProto, shape: tuple[int, ...], place: str) -> tuple[int, ...] | None:
    """What [B, *shape] is reshaped to for an input: None as it is, else [-1, ...] with the same row-major numbers."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    batch, *rest = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim] or [None]
    if batch is not None:
        raise ModelError(f"{place}: takes {describe([value])}: a batch of {batch} alone; export it with a free batch")
    if len(rest) == len(shape) and all(found in (None, want) for found, want in zip(rest, shape, strict=True)):
        return None
    size = math.prod(shape)
    # Axes of length 1 (a picture's channel) move no number; any other pair of shapes might be another layout.
    squeezed = [n for n in rest if n != 1] == [n for n in shape if n != 1]
    if rest in ([size], [None]) or squeezed:
        return (-1, *(size if n is None else n for n in rest))
    flat = f" or [B, {size}]" if len(shape) > 1 else ""
    raise ModelError(f"{place}: takes {describe([value])}, expected {shape_text('B', shape)}{flat}")


def _behind_zipmaps(graph: onnx.GraphProto) -> dict[str, str]:
    """The tensor behind each output: a ZipMap's table of maps is its input, a tensor, with names on it."""
    zipmaps = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "ZipMap"}
    return {value.name: zipmaps.get(value.name, value.name) for value in graph.output}


def _front(source: Source) -> tuple[list[NodeProto], list[TensorProto]]:
    """`input` in the shape and type that the file takes."""
    cast = helper.make_node("Cast", ["input_shaped"], [PREFIX + source.input], to=source.kind)
    if source.shape is None:
        return [helper.make_node("Identity", ["input"], ["input_shaped"]), cast], []
    reshape = helper.make_node("Reshape", ["input", "input_shape"], ["input_shaped"])
    return [reshape, cast], [_weight("input_shape", source.shape, np.int64)]


def _tail(tensor: str, choice: Choice) -> tuple[list[NodeProto], list[TensorProto]]:
    """From the file's answer to `probabilities` and `logits`, the columns in the order of the classes.

    Of probabilities: log p, clamped, as of our ensembles. Its softmax is p, renormalised.
    """
    ordered, table = "logits" if choice.kind == "logits" else "ordered", "answer"
    nodes = [helper.make_node("Cast", [tensor], ["answer"], to=TensorProto.FLOAT)]
    weights = [_weight("order", choice.order, np.int64)]
    if choice.kind == "column":
        weights += [_weight("column", [-1, 1], np.int64), _weight("one", 1, np.float32)]
        nodes += [
            helper.make_node("Reshape", ["answer", "column"], ["second"]),
            helper.make_node("Sub", ["one", "second"], ["first"]),
            helper.make_node("Concat", ["first", "second"], [table := "both"], axis=1),
        ]
    nodes += [helper.make_node("Gather", [table, "order"], [ordered], axis=1)]
    if choice.kind != "logits":
        weights += [_weight("floor", math.exp(FLOOR), np.float32)]
        nodes += [
            helper.make_node("Max", [ordered, "floor"], ["floored"]),
            helper.make_node("Log", ["floored"], ["logits"]),
        ]
    return [*nodes, helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1)], weights


def _weight(name: str, values: ArrayLike, kind: type[np.generic]) -> TensorProto:
    return numpy_helper.from_array(np.array(values, dtype=kind), name)


def _needed(graph: onnx.GraphProto, tensor: str) -> tuple[list[NodeProto], list[TensorProto]]:
    """The operators and weights that one tensor depends on, in their order, without remarks."""
    needed = {tensor}
    nodes: list[NodeProto] = []
    for node in reversed(graph.node):  # ONNX sorts a graph's nodes topologically
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.insert(0, node)
    weights = [weight for weight in graph.initializer if weight.name in needed]
    for part in (*nodes, *weights):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    return nodes, weights


def shape_text(batch: str, shape: Sequence[object]) -> str:
    """A shape as error texts give it: [B, 8, 8]."""
    return f"[{', '.join(str(n) for n in (batch, *shape))}]"


def describe(values: Sequence[onnx.ValueInfoProto]) -> str:
    """Inputs or outputs with type and shape, as error texts give them."""
    return ", ".join(f"{value.name} {_type(value.type)}" for value in values) or "nothing"


def _type(kind: onnx.TypeProto) -> str:
    if not kind.HasField("tensor_type"):
        return "a sequence of maps" if kind.HasField("sequence_type") else "no tensor"
    tensor = kind.tensor_type
    dims = [str(dim.dim_value) if dim.HasField("dim_value") else dim.dim_param or "?" for dim in tensor.shape.dim]
    return f"{TensorProto.DataType.Name(tensor.elem_type).lower()} [{', '.join(dims)}]"
