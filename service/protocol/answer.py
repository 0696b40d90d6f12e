"""From a prediction to the bytes of the protocol's answer, in JSON or in binary. It knows no requests and no routes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from service.manifest import Manifest
from service.model import Prediction
from service.protocol.datatypes import BYTES
from service.protocol.described import Output


class InferAnswer(NamedTuple):
    """The body, and how many bytes of it are JSON where binary tensors follow."""

    body: bytes
    json_length: int | None


def render(manifest: Manifest, prediction: Prediction, outputs: Sequence[Output], identity: str | None) -> InferAnswer:
    """The answer to one request, its outputs in the order in which they were asked for."""
    tensors = {"probabilities": prediction.probabilities_BK, "logits": prediction.logits_BK}
    entries: list[dict[str, Any]] = []
    binary: list[bytes] = []
    for output in outputs:
        tensor = tensors[output.name]
        if output.classes:
            tensor = np.array(best_classes(tensor, output.classes, manifest.classes), dtype=object)
        datatype = BYTES if output.classes else "FP32"
        entry: dict[str, Any] = {"name": output.name, "datatype": datatype, "shape": list(tensor.shape)}
        if output.binary:
            binary.append(_to_bytes(tensor))
            entry["parameters"] = {"binary_data_size": len(binary[-1])}
        else:
            entry["data"] = tensor.ravel().tolist() if output.classes else np.ascontiguousarray(tensor).ravel()
        entries.append(entry)
    head = {"model_name": manifest.name, "model_version": str(manifest.version)}
    raw = _to_json({**head, **({"id": identity} if identity is not None else {}), "outputs": entries})
    return InferAnswer(b"".join([raw, *binary]), len(raw) if binary else None)


def best_classes(tensor_BK: NDArray[np.float32], count: int, classes: Sequence[str]) -> list[list[str]]:
    """`value:index:label` of the best classes of each row, the best first."""
    best_BC = np.argsort(-tensor_BK, axis=1, kind="stable")[:, :count]
    return [[f"{row[k]:f}:{k}:{classes[k]}" for k in order] for row, order in zip(tensor_BK, best_BC, strict=True)]


def _to_bytes(tensor: NDArray[Any]) -> bytes:
    if tensor.dtype != object:
        return tensor.astype("<f4", copy=False).tobytes()
    elements = [element.encode() for element in tensor.ravel()]
    return b"".join(len(element).to_bytes(4, "little") + element for element in elements)


def _to_json(answer: dict[str, Any]) -> bytes:
    arrays = [entry["data"] for entry in answer["outputs"] if isinstance(entry.get("data"), np.ndarray)]
    if all(np.isfinite(array).all() for array in arrays):
        return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    # orjson makes null of NaN; Triton, and the JSON of its clients, writes the literal.
    return json.dumps(answer, default=lambda array: array.tolist(), separators=(",", ":")).encode()
