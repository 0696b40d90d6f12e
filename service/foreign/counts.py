"""How many numbers an ONNX graph has learnt, and how many multiplications it makes. It does not know what they mean."""

from __future__ import annotations

import math
from collections.abc import Mapping

import onnx
from onnx import helper

from service.foreign.wrap import FLOATS, PREFIX

UNUSED = frozenset({"nodes_hitrates"})
"""Float lists that no answer depends on."""


def parameters(graph: bytes) -> int:
    """The numbers of a wrapped file: its float weights, and the float lists of its operators (thresholds, leaves,
    coefficients). Constants of its pre-processing are among them: a file does not say which numbers were trained."""
    proto = onnx.load_model_from_string(graph)
    tensors = [tensor for tensor in proto.graph.initializer if tensor.name.startswith(PREFIX)]
    attributes = [a for node in proto.graph.node for a in node.attribute if a.name not in UNUSED]
    tensors += [attribute.t for attribute in attributes if attribute.HasField("t")]
    numbers = sum(math.prod(tensor.dims) for tensor in tensors if tensor.data_type in FLOATS)
    return int(max(1, numbers + sum(len(attribute.floats) for attribute in attributes)))


def multiply_accumulates(graph: bytes) -> int:
    """Multiplications per example in MatMul, Gemm, Conv and the linear and kernel operators of ai.onnx.ml.

    A lower bound: an operator whose shapes are not known counts nothing. A tree multiplies nothing and counts 1, its
    one addition; the manifest allows no 0, so neither does this.
    """
    proto = onnx.load_model_from_string(graph)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    del proto.graph.output[:]
    inferred = onnx.shape_inference.infer_shapes(proto).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.input)
    } | {tensor.name: list(tensor.dims) for tensor in inferred.initializer}
    return max(1, sum(_multiplications(node, shapes) for node in inferred.node))


def _multiplications(node: onnx.NodeProto, shapes: Mapping[str, list[int]]) -> int:
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type.startswith("TreeEnsemble"):
        return len(set(values.get("nodes_treeids", []))) or len(values.get("tree_roots", []))
    if node.domain == "ai.onnx.ml":
        return sum(len(values.get(name, [])) for name in ("coefficients", "support_vectors"))
    if node.op_type not in ("MatMul", "Gemm", "Conv"):
        return 0
    given, made = [shapes.get(name, []) for name in node.input], shapes.get(node.output[0], [])
    if node.op_type == "Conv":
        return math.prod(made) * math.prod(given[1][1:]) if made and given[1] else 0
    inner = given[0][0 if values.get("transA") else -1] if given[0] else 0
    return math.prod(made) * inner if made else 0
