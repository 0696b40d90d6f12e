"""What an ONNX file is before anything is known of it: the shape of its examples, how many classes, their names.

It knows what a file declares. Where it declares too little, whoever asks has to say more.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from service.errors import ModelError
from service.foreign.labels import labels_of
from service.foreign.wrap import FLOATS, describe


def declared_classes(raw: bytes, place: str) -> list[str] | None:
    """The names of the classes as the file gives them, else "0" to "K-1" by the columns of an output, else None.

    Raises ModelError where it is no ONNX file.
    """
    try:
        graph = onnx.load_model_from_string(raw).graph
    except Exception as error:  # protobuf's DecodeError, which onnx does not re-export
        raise ModelError(f"{place}: not an ONNX file: {error}") from error
    for output in graph.output:
        labels = labels_of(graph, output.name)
        if labels:
            return labels
    wide = [columns for columns in map(_columns, graph.output) if columns]
    return list(map(str, range(wide[0]))) if wide else None


def expect_classes(declared: Sequence[str] | None, raw: bytes, place: str) -> Sequence[str]:
    """Those classes. Raises ModelError where the file declares none."""
    if declared is None:
        outputs = describe(onnx.load_model_from_string(raw).graph.output)
        raise ModelError(
            f"{place}: gives {outputs}, which does not say how many classes there are; put their names into the data"
        )
    return declared


def _columns(output: onnx.ValueInfoProto) -> int:
    tensor = output.type.tensor_type
    dims = tensor.shape.dim
    is_table = output.type.HasField("tensor_type") and tensor.elem_type in FLOATS and len(dims) == 2
    return int(dims[1].dim_value) if is_table and dims[1].dim_value > 1 else 0
