"""Exported graphs against PyTorch and numpy, and what is not inside them."""

import getpass
from collections import Counter
from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from service.session import check_graph
from tests.trainer.conftest import ROOT
from trainer.ensemble import Ensemble, Single
from trainer.errors import ExportError
from trainer.export import Exported, cpu_milliseconds, export, multiply_accumulates, prove, to_onnx
from trainer.networks import Normalise, Stack, parameters

SHAPE = (8, 8)
KINDS = ("single", "arithmetic", "geometric")
INPUTS = np.random.default_rng(0).integers(0, 17, (40, *SHAPE)).astype(np.float32)


def module_of(kind: str, seeds: tuple[int, ...] = (0, 1, 2)) -> nn.Module:
    stack = Stack((64, 16, 12, 10), seeds, Normalise(torch.tensor(0.0), torch.tensor(16.0)))
    members = [stack.member(index) for index in range(stack.members)]
    if kind == "single":
        return Single(members[0])
    return Ensemble(members, "arithmetic" if kind == "arithmetic" else "geometric")


@cache
def graph_of(kind: str) -> bytes:
    return to_onnx(module_of(kind), SHAPE)


def run(graph: bytes, inputs: NDArray) -> list[NDArray]:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return list(session.run(["probabilities", "logits"], {"input": inputs}))


@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize("kind", KINDS)
def test_onnxruntime_gives_what_pytorch_gives(kind, batch):
    """Probabilities and logits, for any number of rows."""
    module = module_of(kind).double()
    expected = [output.detach().numpy() for output in module(torch.from_numpy(INPUTS[:batch].astype(np.float64)))]
    probabilities, logits = run(graph_of(kind), INPUTS[:batch])
    assert probabilities.shape == logits.shape == (batch, 10)
    np.testing.assert_allclose(probabilities, expected[0], atol=1e-6)
    np.testing.assert_allclose(logits, expected[1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_soften_to_the_probabilities(kind):
    """softmax(logits) at T = 1 is what the graph gives: the service softens from there."""
    probabilities, logits = run(graph_of(kind), INPUTS)
    np.testing.assert_allclose(torch.from_numpy(logits).softmax(dim=-1), probabilities, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_interface_is_the_one_of_the_format(kind):
    """`input` [B, 8, 8] -> `probabilities`, `logits` [B, 10], float32, with a free B."""
    proto = onnx.load_model_from_string(graph_of(kind))
    onnx.checker.check_model(proto, full_check=True)
    found = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*proto.graph.input, *proto.graph.output)
    }
    (batch,) = {shape.pop(0) for shape in found.values()}
    assert isinstance(batch, str)
    assert found == {"input": [8, 8], "probabilities": [10], "logits": [10]}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_this_machine_is_inside(kind):
    """No path, no user, no source line, in any part of the file."""
    graph = graph_of(kind)
    for secret in (str(ROOT), "site-packages", ".py", "/tmp", "/home", "trainer", "stack_trace", getpass.getuser()):
        assert secret.encode() not in graph


@pytest.mark.parametrize("kind", KINDS)
def test_only_standard_operators_are_inside(kind):
    """The service's own check takes it, and a reader finds nothing but ai.onnx."""
    graph = graph_of(kind)
    check_graph(graph, "mine/1")
    proto = onnx.load_model_from_string(graph)
    assert {opset.domain for opset in proto.opset_import} <= {"", "ai.onnx"}
    assert {node.domain for node in proto.graph.node} <= {"", "ai.onnx"}
    assert not proto.functions


@pytest.mark.parametrize(("kind", "members"), [("single", 1), ("arithmetic", 3), ("geometric", 3)])
def test_members_are_separate_gemms(kind, members):
    """Three layers each: on a CPU separate products are faster than stacked ones."""
    operators = Counter(node.op_type for node in onnx.load_model_from_string(graph_of(kind)).graph.node)
    assert operators["Gemm"] == 3 * members
    assert operators["MatMul"] == 0


def test_the_same_module_twice_gives_the_same_bytes_in_silence(capfd):
    """A version's checksum says which weights it has; the exporter's remarks about itself are nobody's business."""
    assert to_onnx(module_of("arithmetic"), SHAPE) == graph_of("arithmetic")
    assert capfd.readouterr() == ("", "")


def test_prove_gives_the_largest_difference():
    """Of probabilities, worked out a second time here."""
    module = module_of("arithmetic")
    expected = module(torch.from_numpy(INPUTS))[0].detach().numpy()
    largest = np.abs(run(graph_of("arithmetic"), INPUTS)[0] - expected).max()
    found = prove(graph_of("arithmetic"), module, INPUTS)
    assert found == pytest.approx(largest, abs=2e-7)
    assert 0 <= found < 1e-6


def test_prove_refuses_the_graph_of_another_module():
    """And says by how much they differ."""
    message = r"the graph differs from PyTorch by 0\.\d+, at most 0\.0001 is allowed"
    with pytest.raises(ExportError, match=message):
        prove(graph_of("single"), module_of("single", (5,)), INPUTS)


def test_prove_refuses_logits_that_do_not_belong_to_the_probabilities():
    """Temperatures other than 1 come from the logits: they are proved, too."""
    proto = onnx.load_model_from_string(graph_of("single"))
    for node in proto.graph.node:
        for index, name in enumerate(node.output):
            if name == "logits":
                node.output[index] = "true_logits"
        for index, name in enumerate(node.input):
            if name == "logits":
                node.input[index] = "true_logits"
    proto.graph.node.append(onnx.helper.make_node("Add", ["true_logits", "true_logits"], ["logits"]))
    with pytest.raises(ExportError, match="the graph differs from PyTorch"):
        prove(proto.SerializeToString(), module_of("single"), INPUTS)


def test_prove_refuses_nan():
    """A difference that is not a number is not small."""
    inputs = INPUTS.copy()
    inputs[3, 0, 0] = np.nan
    with pytest.raises(ExportError, match="the graph differs from PyTorch by nan"):
        prove(graph_of("single"), module_of("single"), inputs)


def test_multiplications_and_parameters_counted_by_hand():
    """64-16-12-10, and three of them; biases are parameters and no multiplications."""
    multiplications, numbers = 64 * 16 + 16 * 12 + 12 * 10, 65 * 16 + 17 * 12 + 13 * 10
    assert multiply_accumulates(module_of("single"), SHAPE) == multiplications
    assert multiply_accumulates(module_of("arithmetic"), SHAPE) == 3 * multiplications
    assert parameters(module_of("single")) == numbers
    assert parameters(module_of("geometric")) == 3 * numbers


def test_milliseconds_are_positive():
    assert 0 < cpu_milliseconds(graph_of("single"), INPUTS[:1], budget_s=0.0) < 1000


def test_an_export_says_what_the_manifest_needs():
    """Graph, its hash, the proof, the counts."""
    made = export(module_of("single"), INPUTS)
    assert isinstance(made, Exported)
    assert made.graph == graph_of("single")
    assert made.largest_difference < 1e-6
    assert (made.parameters, made.multiply_accumulates) == (65 * 16 + 17 * 12 + 13 * 10, 64 * 16 + 16 * 12 + 12 * 10)
    assert made.cpu_ms > 0


def test_a_network_that_gives_nan_is_refused():
    """Weights that a diverging run left behind."""
    module = module_of("single")
    with torch.no_grad():
        next(module.parameters()).fill_(float("nan"))
    with pytest.raises(ExportError, match="differs from PyTorch by nan"):
        prove(graph_of("single"), module, INPUTS)
