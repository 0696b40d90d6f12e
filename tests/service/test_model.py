"""service/model.py: a graph answers what numpy computes, and one that cannot be trusted is refused with the reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.errors import ModelError, SettingsError
from service.manifest import GRAPH
from service.model import load_model
from service.session import CPU, open_session, providers
from tests.repositories import DIGITS, examples, known_logits, known_probabilities, linear_graph, write_model

LINEAR = linear_graph((8, 8), 10, 0)


def changed(change: Callable[[onnx.ModelProto], object]) -> bytes:
    """The linear graph after a change."""
    proto = onnx.load_model_from_string(LINEAR)
    change(proto)
    return bytes(proto.SerializeToString())


def test_a_model_answers_what_numpy_computes(tmp_path: Path):
    """Probabilities and logits, for one row and for many."""
    model = load_model(write_model(tmp_path, seed=3), device="cpu")
    inputs, _ = examples()
    for rows in (inputs[:1], inputs):
        prediction = model.run(rows)
        np.testing.assert_allclose(prediction.logits_BK, known_logits(rows, seed=3), atol=1e-5)
        np.testing.assert_allclose(prediction.probabilities_BK, known_probabilities(rows, seed=3), atol=1e-6)


def test_a_model_says_its_name_and_its_provider(tmp_path: Path):
    """The provider that was got."""
    model = load_model(write_model(tmp_path), device="cpu", threads=2)
    assert (model.provider, repr(model)) == (CPU, "Model(digits-student/1 on CPUExecutionProvider)")


def external(proto: onnx.ModelProto) -> None:
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def external_in_a_constant(proto: onnx.ModelProto) -> None:
    node = proto.graph.node.add(op_type="Constant", output=["c"])
    attribute = node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR)
    attribute.t.CopyFrom(numpy_helper.from_array(np.zeros(3, dtype=np.float32)))
    attribute.t.external_data.add(key="location", value="weights.bin")


def external_and_sparse(proto: onnx.ModelProto) -> None:
    tensor = proto.graph.sparse_initializer.add(dims=[3])
    tensor.indices.CopyFrom(numpy_helper.from_array(np.zeros(1, dtype=np.int64)))
    tensor.values.CopyFrom(numpy_helper.from_array(np.zeros(1, dtype=np.float32)))
    tensor.values.external_data.add(key="location", value="weights.bin")


def control_flow(proto: onnx.ModelProto) -> None:
    body = helper.make_graph([], "body", [], [])
    proto.graph.node.append(helper.make_node("Loop", ["", "", "W"], ["w"], body=body))


def foreign(proto: onnx.ModelProto) -> None:
    proto.graph.node[2].domain = "com.example"


def functions(proto: onnx.ModelProto) -> None:
    proto.functions.add(name="f", domain="com.example")


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (b"no graph", "model.onnx is not an ONNX graph"),
        (LINEAR[:200], "model.onnx is not an ONNX graph"),
        (changed(external), "model.onnx keeps weights in other files; a model is one file"),
        (changed(external_in_a_constant), "model.onnx keeps weights in other files"),
        (changed(external_and_sparse), "model.onnx keeps weights in other files"),
        (changed(control_flow), "operator Loop holds a nested graph: control flow is refused"),
        (changed(foreign), "operator Softmax is of domain 'com.example', expected a standard one"),
        (changed(functions), "model.onnx defines functions of its own, expected standard operators"),
        (changed(lambda proto: proto.graph.node.pop()), "onnxruntime cannot load model.onnx"),
        (linear_graph((8, 8), 9, 0), "[('input', 'tensor(float)', [8, 8]), ('probabilities', 'tensor(float)', [10])"),
        (linear_graph((64,), 10, 0), "without a free batch, expected [('input', 'tensor(float)', [8, 8])"),
    ],
)
def test_a_graph_that_cannot_be_trusted_is_refused(graph: bytes, reason: str, tmp_path: Path):
    """By name, with the reason."""
    with pytest.raises(ModelError) as caught:
        load_model(write_model(tmp_path, graph=graph), device="cpu")
    assert str(caught.value).startswith("digits-student/1: ")
    assert reason in str(caught.value)


def test_a_graph_with_a_fixed_batch_is_refused(tmp_path: Path):
    """B is free."""

    def fix(proto: onnx.ModelProto) -> None:
        proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1

    with pytest.raises(ModelError, match="without a free batch"):
        load_model(write_model(tmp_path, graph=changed(fix)), device="cpu")


def test_a_graph_that_gives_nan_on_zeros_is_refused(tmp_path: Path):
    """The first run is a test."""

    def poison(proto: onnx.ModelProto) -> None:
        proto.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.full(10, np.nan, dtype=np.float32), "b"))

    with pytest.raises(ModelError, match="on zeros the graph gives no finite distribution of 10 classes"):
        load_model(write_model(tmp_path, graph=changed(poison)), device="cpu")


def test_a_graph_whose_bytes_changed_is_refused_before_it_is_read(tmp_path: Path):
    """The session is made from the bytes whose checksum was right."""
    version = write_model(tmp_path, classes=DIGITS)
    (version / GRAPH).write_bytes(linear_graph((8, 8), 10, 5))
    with pytest.raises(ModelError, match=r"digits-student/1: model\.onnx does not match its manifest"):
        load_model(version, device="cpu")


@pytest.mark.parametrize("spin", [False, True])
def test_no_session_spins_after_its_run(spin: bool):
    """A spinning thread of one model slows the others."""
    options = open_session(LINEAR, device="cpu", threads=2, spin=spin).get_session_options()
    assert options.intra_op_num_threads == 2
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == str(int(spin))
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"


def test_a_small_model_has_one_thread_and_is_known_to_be_quick(tmp_path: Path):
    """A second thread, or a hop to one, would cost more than its run."""
    model = load_model(write_model(tmp_path), device="cpu", threads=4)
    assert model.session.get_session_options().intra_op_num_threads == 1
    assert model.quick_rows > 1


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this onnxruntime has CUDA"
)
def test_cuda_is_refused_where_there_is_none():
    """And auto takes the CPU."""
    with pytest.raises(
        SettingsError, match=r"asked for cuda, but this onnxruntime has .*CPUExecutionProvider: install"
    ):
        providers("cuda")
    assert providers("auto") == providers("cpu") == [CPU]
