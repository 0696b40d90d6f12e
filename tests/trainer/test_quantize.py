"""Smaller graphs against the float32 ones they come from: networks that have learnt the digits, and some that break."""

import logging
from collections import Counter
from collections.abc import Callable
from functools import cache

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from sklearn.datasets import load_digits
from torch import nn

from service import measures
from service.session import check_graph, open_session
from trainer.data.split import Part
from trainer.ensemble import Ensemble, Single
from trainer.errors import ExportError
from trainer.export import Exported, export, to_onnx
from trainer.networks import Normalise
from trainer.quantize import check_accuracy, check_range, fp16, int8, probabilities, reduced

DIGITS = load_digits()
INPUTS = DIGITS.images.astype(np.float32)
TRAINING, CALIBRATION = INPUTS[:1200], INPUTS[:300]
VALIDATION = Part(DIGITS.images[1200:], DIGITS.target[1200:].astype(np.int64))
PIXELS = VALIDATION.inputs.astype(np.float32)
REDUCE = {"int8": lambda graph: int8(graph, CALIBRATION), "fp16": fp16}
CASES = [(network, kind) for network in ("mlp", "convolutions", "features", "ensemble") for kind in ("int8", "fp16")]


def layers(network: str) -> nn.Sequential:
    if network == "convolutions":
        first = nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        second = nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        return nn.Sequential(image(), nn.Unflatten(1, (1, 8)), *first, *second, nn.Flatten(), nn.Linear(64, 10))
    front = image()
    if network == "features":
        front = Normalise(torch.from_numpy(TRAINING.mean(axis=0)), torch.from_numpy(TRAINING.std(axis=0) + 1.0))
    return nn.Sequential(front, nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))


def image() -> Normalise:
    return Normalise(torch.tensor(0.0), torch.tensor(16.0))


@cache
def trained(network: str) -> nn.Module:
    """A second of Adam: random weights would put examples on every boundary between classes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = [fitted(layers(network)) for _ in range(2 if network == "ensemble" else 1)]
    return Ensemble(made, "arithmetic") if network == "ensemble" else Single(made[0])


def fitted(module: nn.Sequential) -> nn.Sequential:
    optimiser = torch.optim.Adam(module.parameters(), 0.01)
    inputs, labels = torch.from_numpy(TRAINING), torch.from_numpy(DIGITS.target[:1200])
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(module(inputs), labels).backward()
        optimiser.step()
    return module.eval()


@cache
def full_of(network: str) -> bytes:
    return to_onnx(trained(network), (8, 8))


@cache
def reduced_of(network: str, kind: str) -> bytes:
    return REDUCE[kind](full_of(network))


def operators(graph: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_model_from_string(graph).graph.node)


def changed(graph: bytes, index: int, change: Callable[[np.ndarray], np.ndarray]) -> bytes:
    """The graph with another matrix of weights `index`."""
    model = onnx.load_model_from_string(graph)
    weight = [tensor for tensor in model.graph.initializer if len(tensor.dims) == 2][index]
    weight.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(weight).copy()), weight.name))
    return bytes(model.SerializeToString())


def with_outlier(weight: np.ndarray) -> np.ndarray:
    weight[0, 0] = 1e5  # of the pixel in a corner, which is 0 in every digit
    return weight


@pytest.mark.parametrize(("network", "kind"), CASES)
def test_a_reduced_graph_answers_as_the_full_one_does(network, kind):
    """More than 99 % of the labels stay, and probabilities move little."""
    found, expected = probabilities(reduced_of(network, kind), PIXELS), probabilities(full_of(network), PIXELS)
    assert measures.accuracy(expected.argmax(axis=1), VALIDATION.labels).value > 0.85
    assert measures.agreement(found.argmax(axis=1), expected.argmax(axis=1)) > 0.99
    assert np.abs(found - expected).mean() < (2e-3 if kind == "int8" else 1e-4)
    assert np.abs(found - expected).max() < (0.15 if kind == "int8" else 5e-3)


@pytest.mark.parametrize(("network", "kind"), CASES)
def test_its_interface_is_the_full_ones_and_the_service_takes_it(network, kind):
    """Standard operators, the same names, float32, a free batch; softmax of its logits is its probabilities."""
    graph = reduced_of(network, kind)
    check_graph(graph, "mine/1")
    onnx.checker.check_model(onnx.load_model_from_string(graph), full_check=True)
    session, full = (open_session(one, device="cpu", threads=1) for one in (graph, full_of(network)))
    for ours, theirs in zip(
        session.get_inputs() + session.get_outputs(), full.get_inputs() + full.get_outputs(), strict=True
    ):
        assert (ours.name, ours.type, ours.shape) == (theirs.name, theirs.type, theirs.shape)
    for rows in (1, 2, 7):
        found, logits = session.run(["probabilities", "logits"], {"input": PIXELS[:rows]})
        assert (found.shape, found.dtype, logits.dtype) == ((rows, 10), np.float32, np.float32)
        np.testing.assert_allclose(torch.from_numpy(logits).softmax(dim=-1), found, atol=1e-6)


@pytest.mark.parametrize("network", ["mlp", "convolutions", "ensemble"])
def test_int8_multiplies_integers(network):
    """Weights are int8 and inputs uint8; onnxruntime multiplies what comes from two such pairs without going back."""
    model = onnx.load_model_from_string(reduced_of(network, "int8"))
    tensors = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    made = {node.output[0]: node for node in model.graph.node}
    products = [node for node in model.graph.node if node.op_type in ("Gemm", "Conv")]
    assert len(products) == {"mlp": 2, "convolutions": 3, "ensemble": 4}[network]
    for product in products:
        for name, kind in zip(product.input, (onnx.TensorProto.UINT8, onnx.TensorProto.INT8), strict=False):
            while made[name].op_type in ("Reshape", "Unsqueeze"):
                name = made[name].input[0]
            assert made[name].op_type == "DequantizeLinear"
            assert tensors[made[name].input[2]] == kind


def test_int8_takes_a_quarter_of_the_bytes():
    """And the division is in the weights."""
    wide = to_onnx(Single(nn.Sequential(image(), nn.Flatten(), nn.Linear(64, 800), nn.Linear(800, 10))), (8, 8))
    assert 3.5 < len(wide) / len(int8(wide, CALIBRATION)) < 4
    assert operators(full_of("mlp"))["Div"] == 1
    assert operators(reduced_of("mlp", "int8"))["Div"] == 0


@pytest.mark.parametrize(("network", "kind"), CASES)
def test_an_answer_does_not_depend_on_the_rows_beside_it(network, kind):
    """The service batches strangers' requests: one that is a thousand times too bright must not spoil the others."""
    bright = PIXELS[:8].copy()
    bright[0] *= 1000
    found = probabilities(reduced_of(network, kind), bright)[1:]
    np.testing.assert_allclose(found, probabilities(reduced_of(network, kind), PIXELS[:8])[1:], atol=1e-6)


def test_a_division_by_more_than_one_number_stays():
    """Features of different units must not share a scale: they are normalised before they are quantised."""
    assert operators(reduced_of("features", "int8"))["Div"] == operators(full_of("features"))["Div"] == 1


def test_fp16_halves_products_and_keeps_softmax_and_the_division():
    """What sees raw units and what gives probabilities computes in float32, and so never passes through float16."""
    graph = reduced_of("mlp", "fp16")
    model = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(graph))
    values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    kinds = {value.name: value.type.tensor_type.elem_type for value in values}
    kinds |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    half, single = {onnx.TensorProto.FLOAT16}, {onnx.TensorProto.FLOAT}
    expected = {"Gemm": half, "Relu": half, "Softmax": single, "Div": single}
    for node in model.graph.node:
        if node.op_type in expected:
            assert {kinds[name] for name in (*node.input, *node.output)} == expected[node.op_type]
    assert operators(graph)["Cast"] == 2
    assert len(graph) < 0.6 * len(full_of("mlp"))


def test_fp16_takes_raw_units_beyond_its_own_range():
    """Features that end far above 65504 are normalised first."""
    normalise = Normalise(torch.tensor(1e6), torch.tensor(1e5))
    graph = to_onnx(Single(nn.Sequential(normalise, nn.Flatten(), nn.Linear(64, 10))), (8, 8))
    raw = (1e6 + 1e5 * (PIXELS / 8 - 1)).astype(np.float32)
    assert np.abs(probabilities(fp16(graph), raw) - probabilities(graph, raw)).max() < 2e-3


@pytest.mark.parametrize("kind", ["int8", "fp16"])
@pytest.mark.parametrize("network", ["mlp", "convolutions"])
def test_the_same_graph_twice_gives_the_same_bytes_in_silence(network, kind, capfd, monkeypatch):
    """No remark of the quantiser's, on no stream; none of this machine's paths inside."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    graph = REDUCE[kind](full_of(network))
    assert graph == reduced_of(network, kind)
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger().handlers == []
    assert b"/tmp" not in graph
    assert b"site-packages" not in graph


@pytest.mark.parametrize("kind", ["int8", "fp16"])
def test_a_reduced_export_says_what_the_manifest_needs(kind):
    """The counts of the float32 export, a time of its own, and the difference from the float32 graph."""
    made = export(trained("mlp"), PIXELS)
    found = reduced(made, kind, CALIBRATION, VALIDATION)
    difference = np.abs(probabilities(found.graph, PIXELS) - probabilities(made.graph, PIXELS)).max()
    assert isinstance(found, Exported)
    assert found.graph == reduced_of("mlp", kind)
    assert found.largest_difference == pytest.approx(difference)
    assert found.largest_difference > made.largest_difference
    assert found[2:4] == made[2:4]
    assert found.cpu_ms > 0


def test_the_gate_gives_the_paired_difference():
    """Of the reduced graph from the full one; the same graph differs by 0."""
    found = check_accuracy(reduced_of("mlp", "int8"), full_of("mlp"), VALIDATION)
    small, large = (probabilities(one, PIXELS).argmax(axis=1) for one in (reduced_of("mlp", "int8"), full_of("mlp")))
    assert found == measures.accuracy_difference(small, large, VALIDATION.labels)
    assert check_accuracy(full_of("mlp"), full_of("mlp"), VALIDATION, 0.0).value == 0


def test_a_collapse_is_refused():
    """One weight that is never used takes the scale of its whole matrix: all others become 0."""
    broken = changed(full_of("mlp"), 0, with_outlier)
    np.testing.assert_allclose(probabilities(broken, PIXELS), probabilities(full_of("mlp"), PIXELS), atol=1e-6)
    made = Exported(broken, 0.0, 1, 1, 0.1)
    message = (
        r"the reduced graph is right on \d+\.\d\d% of 597 validation examples, the full one on \d\d\.\d\d%: "
        r"a drop of \d\d\.\d\d points, at most 0\.5 are allowed"
    )
    with pytest.raises(ExportError, match=message):
        reduced(made, "int8", CALIBRATION, VALIDATION)
    assert reduced(made, "int8", CALIBRATION, VALIDATION, allowed_points=100).largest_difference > 0.1


def test_a_drop_of_what_is_allowed_passes_and_a_little_more_does_not():
    """One example of 200 is half a point."""
    full = probabilities(full_of("mlp"), PIXELS[:200]).argmax(axis=1)
    permuted = changed(full_of("mlp"), 1, lambda weight: weight[::-1])
    other = probabilities(permuted, PIXELS[:200]).argmax(axis=1)
    labels = np.full(200, -1)
    differing = np.flatnonzero(full != other)[:2]
    labels[differing[:1]] = full[differing[:1]]
    assert check_accuracy(permuted, full_of("mlp"), Part(PIXELS[:200], labels)).value == -0.005
    labels[differing] = full[differing]
    with pytest.raises(ExportError, match=r"right on 0\.00% of 200 .* on 1\.00%: a drop of 1\.00 points, at most 0\.5"):
        check_accuracy(permuted, full_of("mlp"), Part(PIXELS[:200], labels))


def test_weights_too_large_for_float16_are_refused():
    """The converter would clip them and say nothing."""
    with pytest.raises(ExportError, match=r"network\.2\.weight reaches 100000, float16 ends at 65504"):
        fp16(changed(full_of("mlp"), 0, with_outlier))


def test_an_overflow_inside_is_refused():
    """Though every weight fits, and though a CPU, which computes such products in float32, would not show it."""
    huge = changed(full_of("mlp"), 0, lambda weight: weight * np.float32(60000 / np.abs(weight).max()))
    with pytest.raises(ExportError, match=r"linear reaches \S+, float16 ends at 65504"):
        reduced(Exported(huge, 0.0, 1, 1, 0.1), "fp16", CALIBRATION, VALIDATION)
    assert np.isfinite(probabilities(fp16(huge), PIXELS)).all()


def test_inputs_too_large_for_float16_are_refused():
    """What is not normalised is cast as it is."""
    plain = to_onnx(Single(nn.Linear(4, 3)), (4,))
    raw = np.full((2, 4), 7e4).astype(np.float32)
    check_range(plain, raw / np.float32(100))
    with pytest.raises(ExportError, match=r"input reaches 70000, float16 ends at 65504"):
        check_range(plain, raw)


def test_nan_is_refused():
    """In weights, in products and in answers."""
    broken = changed(full_of("mlp"), 0, lambda weight: weight * np.float32(np.nan))
    with pytest.raises(ExportError, match=r"network\.2\.weight reaches nan, float16 ends at 65504"):
        fp16(broken)
    with pytest.raises(ExportError, match="linear reaches nan"):
        check_range(broken, PIXELS)
    with pytest.raises(ExportError, match="the reduced graph gives probabilities that are not finite"):
        check_accuracy(broken, full_of("mlp"), VALIDATION)
