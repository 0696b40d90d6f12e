"""What an ONNX file says of its classes: their labels, and the order of its columns. It knows nodes, not answers."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import helper, numpy_helper

from service.errors import ModelError

LABELS = ("classlabels_strings", "classlabels_int64s", "classlabels_ints")
TRANSPARENT = frozenset({"Identity", "Cast", "Reshape", "Normalizer", "Softmax"})
"""Operators behind which the columns, or the label, are still the classifier's."""


def labels_of(graph: onnx.GraphProto, output: str) -> list[str] | None:
    """The labels of an output's columns as text; None where the file names none.

    A ZipMap on the output knows best; then the label output, because inside a stack or a vote the classifiers number
    the classes that only the label output names; then the classifier behind the output.
    """
    producers = {name: node for node in graph.node for name in node.output}
    zipmap = producers.get(output)
    if zipmap is not None and zipmap.op_type == "ZipMap":
        return _attribute(zipmap)
    others = [value.name for value in graph.output if value.name != output]
    found = (_behind(name, producers, graph) for name in (*others, output))
    return next((labels for labels in found if labels), None)


def column_order(labels: Sequence[str] | None, classes: Sequence[str], place: str) -> list[int]:
    """For each class the column that holds it. Labels 0 to K-1 are positions where the classes have other names.

    Without labels the columns are taken to be in the order of the classes. Raises ModelError where the sets differ.
    """
    positions = [str(index) for index in range(len(classes))]
    if labels is None:
        return list(range(len(classes)))
    for names in (list(classes), positions):
        if sorted(labels) == sorted(names):
            return [labels.index(name) for name in names]
    raise ModelError(
        f"{place}: its classes are {', '.join(labels)}; expected {', '.join(classes)} (in any order) or 0 to "
        f"{len(classes) - 1}"
    )


def _behind(name: str, producers: dict[str, onnx.NodeProto], graph: onnx.GraphProto) -> list[str] | None:
    """Walks back from a tensor to the classifier or the table of labels that it comes from."""
    while (node := producers.get(name)) is not None:
        if node.op_type == "ArrayFeatureExtractor":
            return next((_text(t) for t in graph.initializer if t.name == node.input[0]), None)
        if node.op_type not in TRANSPARENT:
            return _attribute(node)
        name = node.input[0]
    return None


def _text(tensor: onnx.TensorProto) -> list[str]:
    values = numpy_helper.to_array(tensor).reshape(-1).tolist()
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _attribute(node: onnx.NodeProto) -> list[str] | None:
    for attribute in node.attribute:
        values = helper.get_attribute_value(attribute) if attribute.name in LABELS else None
        if values:
            return [value.decode() if isinstance(value, bytes) else str(value) for value in values]
    return None
