"""A proved float32 graph becomes a smaller one, int8 or float16, and is refused where that costs accuracy.

It knows graphs and one set of labelled examples, not how the graph came about or where it is published.
The choices in here were measured: benchmarks/int8.py has the figures.
"""

from __future__ import annotations

import logging
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from service import measures
from service.measures import Estimate
from service.session import open_session
from trainer.data.split import Part
from trainer.errors import ExportError
from trainer.export import Exported, cpu_milliseconds

Kind = Literal["int8", "fp16"]
ALLOWED_POINTS = 0.5
"""Percentage points of validation accuracy that a reduced graph may lose."""
LARGEST_HALF = 65504.0
BATCH = 256
PRODUCTS = ("Conv", "Gemm", "MatMul")
BETWEEN = ("Relu", "MaxPool", "AveragePool", "GlobalAveragePool", "Flatten", "Reshape")


def reduced(
    exported: Exported,
    kind: Kind,
    calibration: NDArray[np.float32],
    validation: Part,
    allowed_points: float = ALLOWED_POINTS,
) -> Exported:
    """The int8 or fp16 form of an export, proved on validation examples. Raises ExportError.

    `largest_difference` is then the largest difference of a probability from the float32 graph's, which has been
    proved against PyTorch; the bound of 1e-4 holds for float32 exports only. `calibration` [N, ...] is in raw units.
    Parameters and multiplications stay what they were.
    """
    inputs = validation.inputs.astype(np.float32)
    if kind == "fp16":
        check_range(exported.graph, inputs)
    graph = int8(exported.graph, calibration) if kind == "int8" else fp16(exported.graph)
    check_accuracy(graph, exported.graph, validation, allowed_points)
    difference = np.abs(probabilities(graph, inputs) - probabilities(exported.graph, inputs)).max()
    cpu_ms = cpu_milliseconds(graph, inputs[:1])
    return exported._replace(graph=graph, largest_difference=float(difference), cpu_ms=cpu_ms)


def check_accuracy(reduced: bytes, full: bytes, validation: Part, allowed_points: float = ALLOWED_POINTS) -> Estimate:
    """The reduced graph's accuracy minus the full one's, paired. Raises ExportError where it loses more than allowed.

    The value decides and not its interval, which on few examples allows anything.
    """
    inputs, labels = validation.inputs.astype(np.float32), validation.labels
    answers = [probabilities(graph, inputs) for graph in (reduced, full)]
    if not np.isfinite(answers[0]).all():
        raise ExportError("the reduced graph gives probabilities that are not finite")
    small, large = (answer.argmax(axis=1) for answer in answers)
    difference = measures.accuracy_difference(small, large, labels)
    drop = -100 * difference.value
    if drop > allowed_points + 1e-9:  # 0.5 points are 0.5 points after rounding, too
        found = [measures.accuracy(predicted, labels).value for predicted in (small, large)]
        raise ExportError(
            f"the reduced graph is right on {found[0]:.2%} of {len(labels)} validation examples, the full one on "
            f"{found[1]:.2%}: a drop of {drop:.2f} points, at most {allowed_points:g} are allowed"
        )
    return difference


def check_range(graph: bytes, inputs: NDArray[np.float32]) -> None:
    """Raises ExportError where a product of the float32 graph, or what it multiplies, is too large for float16 or NaN.

    Running the float16 graph would not show it: on a CPU without such kernels onnxruntime computes it in float32.
    """
    model = onnx.load_model_from_string(graph)
    products = [node for node in model.graph.node if node.op_type in PRODUCTS]
    names = list(dict.fromkeys(name for node in products for name in (node.input[0], node.output[0])))
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    session = open_session(model.SerializeToString(), device="cpu", threads=1)
    for batch in _batches(inputs):
        for name, value in zip(names, session.run(names, {"input": batch}), strict=True):
            _check_half(name, value)


def int8(graph: bytes, calibration: NDArray[np.float32]) -> bytes:
    """The graph with products of 8-bit integers, one scale a tensor; inputs have the range of `calibration` [N, ...].

    Inputs are unsigned and weights signed, as VNNI instructions take them, and weights have 7 bits: a processor without
    these adds two products in 16 bits, where 8 bits may saturate. What a product gives is not rounded again.
    Ranges found anew in each batch would need no calibration, but then one request's outlier spoils those beside it.
    """
    from onnxruntime.quantization import QuantType, quantize_static  # takes 0.3 s

    model = _prepared(graph)
    reader = SimpleNamespace(get_next=partial(next, iter([{"input": batch} for batch in _batches(calibration)]), None))
    options = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    options["reduce_range"] = True
    options["extra_options"] = {"OpTypesToExcludeOutputQuantization": list(PRODUCTS)}
    root, quiet = logging.getLogger(), logging.NullHandler()  # logging.info gives the root one where it has none
    with ExitStack() as stack:
        root.addHandler(quiet)
        stack.callback(root.removeHandler, quiet)
        path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "model.onnx"
        quantize_static(model, path, reader, op_types_to_quantize=[*PRODUCTS, "Relu", "MaxPool"], **options)
        return _bytes(onnx.load(path))


def fp16(graph: bytes) -> bytes:
    """The graph with weights and products of float16 and the interface of float32. Raises ExportError.

    Pre-processing, the mean of an ensemble and softmax stay float32. onnxruntime's converter casts raw inputs and
    probabilities to float16 and back even where told to keep them, and does not sort its nodes.
    """
    model = onnx.load_model_from_string(graph)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    halves: dict[str, str] = {}  # the name of a value -> of the same in float16
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        product = node.op_type in PRODUCTS
        for name in (name for name in node.input if product and name and name not in halves):
            halves[name] = f"{name}_half"
            if name in weights:
                _check_half(name, weights[name])
                model.graph.initializer.append(numpy_helper.from_array(weights[name].astype(np.float16), halves[name]))
            else:
                nodes.append(helper.make_node("Cast", [name], [halves[name]], to=TensorProto.FLOAT16))
        nodes.append(node)
        if product or (node.op_type in BETWEEN and node.input[0] in halves):
            name = node.output[0]
            halves[name] = node.output[0] = f"{name}_half"
            node.input[:] = [halves.get(one, one) for one in node.input]
            nodes.append(helper.make_node("Cast", [halves[name]], [name], to=TensorProto.FLOAT))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return _bytes(model)


def probabilities(graph: bytes, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """[N, K] for raw inputs [N, ...], in batches on one CPU thread."""
    session = open_session(graph, device="cpu", threads=1)
    return np.concatenate([session.run(["probabilities"], {"input": batch})[0] for batch in _batches(inputs)])


def _batches(inputs: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    return np.array_split(inputs, -(-len(inputs) // BATCH))


def _check_half(name: str, values: NDArray[np.float32]) -> None:
    largest = float(np.abs(values).max())
    if not largest <= LARGEST_HALF:  # NaN must not pass
        raise ExportError(f"{name} reaches {largest:g}, float16 ends at {LARGEST_HALF:g}")


def _prepared(graph: bytes) -> ModelProto:
    """The model as the quantiser wants it. Where one number divides all inputs, it divides the first weights instead.

    Whole numbers from 0 to 255 then quantise to themselves, and the graph has one node less.
    """
    model = onnx.load_model_from_string(graph)
    nodes, tensors = model.graph.node, {tensor.name: tensor for tensor in model.graph.initializer}
    for division in [node for node in nodes if node.op_type == "Div" and node.input[0] == "input"]:
        flat = [node for node in nodes if division.output[0] in node.input]
        products = [node for node in nodes if {node.output[0] for node in flat} & set(node.input)]
        scale = tensors.get(division.input[1])
        weights = [tensors[node.input[1]] for node in products if node.op_type == "Gemm" and node.input[1] in tensors]
        bare = {node.op_type for node in flat} == {"Reshape"} and 0 < len(products) == len(weights)
        if not bare or scale is None or scale.dims:
            continue
        for weight in weights:
            divided = numpy_helper.to_array(weight) / numpy_helper.to_array(scale)
            weight.CopyFrom(numpy_helper.from_array(divided, weight.name))
        for node in flat:
            node.input[0] = "input"
        nodes.remove(division)
    model = onnx.load_model_from_string(_bytes(model))
    helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})  # else it warns that it is not
    return model


def _bytes(model: ModelProto) -> bytes:
    """The model without casts and weights that nothing uses, of which onnxruntime would warn, and without remarks."""
    graph = model.graph
    used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    for parts in (graph.node, graph.initializer):
        for part in [part for part in parts if not used & {part.name, *getattr(part, "output", [])}]:
            parts.remove(part)
    del graph.value_info[:]
    model.ClearField("metadata_props")
    return bytes(model.SerializeToString(deterministic=True))
