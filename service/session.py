"""An onnxruntime session over the bytes of a graph: which graphs may become one, on which provider, with which threads.

It knows graphs and the runtime, not manifests or what a graph is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import onnx
import onnxruntime

from service.errors import ModelError, SettingsError
from service.manifest import GRAPH

Device = Literal["auto", "cpu", "cuda"]
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
TINY = '<ir_version: 8, opset_import: ["": 17]> tiny (float[B, 8] x) => (float[B, B] y) { y = Gemm<transB = 1>(x, x) }'
CUDA_OPTIONS = {
    records: {"arena_extend_strategy": "kSameAsRequested", "enable_cuda_graph": str(int(records))}
    for records in (False, True)
}
"""Several models share the card: none takes twice the memory that it had to ask for."""
STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})


def check_graph(graph: bytes, place: str) -> None:
    """Refuses a graph that could reach outside its bytes or loop. What one operator may want of memory is not bounded.

    That is: external data, operators of other domains than the standard ones, control flow (any nested graph), and
    functions of its own. Raises ModelError.
    """
    try:
        proto = onnx.load_model_from_string(graph)
    except Exception as error:  # protobuf's DecodeError, which onnx does not re-export
        raise ModelError(f"{place}: {GRAPH} is not an ONNX graph: {error}") from error
    tensors = list(proto.graph.initializer)
    sparse = list(proto.graph.sparse_initializer)
    for node in proto.graph.node:
        if node.domain not in STANDARD_DOMAINS:
            raise ModelError(f"{place}: operator {node.op_type} is of domain {node.domain!r}, expected a standard one")
        for attribute in node.attribute:
            if attribute.HasField("g") or attribute.graphs:
                raise ModelError(f"{place}: operator {node.op_type} holds a nested graph: control flow is refused")
            tensors += [attribute.t, *attribute.tensors]
            sparse += [attribute.sparse_tensor, *attribute.sparse_tensors]
    tensors += [part for tensor in sparse for part in (tensor.values, tensor.indices)]
    if any(t.data_location == onnx.TensorProto.EXTERNAL or t.external_data for t in tensors):
        raise ModelError(f"{place}: {GRAPH} keeps weights in other files; a model is one file")
    if proto.functions:
        raise ModelError(f"{place}: {GRAPH} defines functions of its own, expected standard operators")


def open_session(
    graph: bytes, *, device: Device, threads: int, spin: bool = False, records: bool = False
) -> onnxruntime.InferenceSession:
    """A session over the bytes of a graph. Its threads may `spin` while it runs, to be quicker at the next operator.

    After a run they never do: they would slow whatever else runs. On CUDA one that `records` can record its runs; it
    cannot be had where an operator of the graph has no CUDA kernel.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.dynamic_block_base", "4")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    asked = [(name, CUDA_OPTIONS[records] if name == CUDA else {}) for name in providers(device)]
    session = onnxruntime.InferenceSession(graph, options, providers=asked)
    got = session.get_providers()[0]
    if device == "cuda" and got != CUDA:
        # onnxruntime falls back without a word where the CUDA libraries do not load.
        raise SettingsError(f"asked for cuda, got {got}: onnxruntime could not start CUDA; use --device cpu or auto")
    return session


def start_runtime(device: Device, threads: int, rows: int) -> None:
    """Asks a tiny graph for one row and for so many, so that what onnxruntime takes for its own start in a process is
    not that of the model which is loaded next. Raises SettingsError as `open_session` does."""
    tiny = onnx.parser.parse_model(TINY).SerializeToString()
    session = open_session(tiny, device=device, threads=threads)
    for count in (1, rows):
        session.run(None, {"x": np.zeros((count, 8), np.float32)})


def providers(device: Device) -> Sequence[str]:
    """The providers to ask for. Raises SettingsError where CUDA is asked for and onnxruntime was built without."""
    available = onnxruntime.get_available_providers()
    if device == "cuda" and CUDA not in available:
        raise SettingsError(
            f"asked for cuda, but this onnxruntime has {', '.join(available)}: "
            "install the gpu extra (make run ACCELERATOR=gpu) or use --device cpu"
        )
    if device == "cpu" or CUDA not in available:
        return [CPU]
    onnxruntime.preload_dlls()  # finds the CUDA and cuDNN wheels beside onnxruntime
    return [CUDA, CPU]
