"""Networks of other frameworks as teachers: their layouts of inputs and outputs become ours."""

import warnings

import numpy as np
import pytest
import torch
from onnx import TensorProto
from torch import nn

from service.foreign.answers import wrap
from tests.trainer.test_onnx_teacher import ABC, VALUES, floats, interface, node, run, softmax, tiny, weight
from trainer.export import Exported
from trainer.onnx_teacher import read_teacher


class Picture(nn.Module):
    """A convolution and a layer, on [B, 1, 8, 8]: logits, or their softmax."""

    def __init__(self, answer: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10), answer)

    def forward(self, x):
        return self.network(x)


PICTURES = np.random.default_rng(0).normal(size=(20, 8, 8)).astype(np.float32)


DIGITS = tuple(map(str, range(10)))


def picture_file(module: nn.Module) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's remarks about itself
        program = torch.onnx.export(
            module.eval(),
            (torch.zeros(2, 1, 8, 8),),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    assert program is not None
    return program.model_proto.SerializeToString()


@pytest.mark.parametrize("answer", [nn.Identity(), nn.Softmax(dim=1), nn.LogSoftmax(dim=1)])
def test_a_network_of_pytorch_gives_logits_or_probabilities(answer, tmp_path):
    """Which of them is read off the numbers; a channel axis of length 1 is added."""
    module = Picture(answer)
    path = tmp_path / "net.onnx"
    path.write_bytes(picture_file(module))
    made = read_teacher(path, PICTURES, DIGITS)
    assert isinstance(made, Exported)
    answers = Picture(nn.Softmax(dim=1))(torch.from_numpy(PICTURES)[:, None]).detach().numpy()
    probabilities, logits = run(made.graph, PICTURES)
    np.testing.assert_allclose(probabilities, answers, atol=1e-6)
    np.testing.assert_allclose(softmax(logits), answers, atol=1e-6)
    assert made.parameters == 4 * 9 + 4 + 144 * 10 + 10
    assert made.multiply_accumulates == 36 * 4 * 9 + 144 * 10
    assert made.cpu_ms > 0
    assert made.largest_difference < 1e-6


def test_logits_stay_as_they_are():
    """A softmax is added, and `input` and `y` may be any names."""
    probabilities, logits = run(wrap(tiny(), VALUES, ABC, "t"), VALUES)
    np.testing.assert_array_equal(logits, VALUES)
    np.testing.assert_allclose(probabilities, softmax(VALUES), atol=1e-6)


def test_names_of_the_standard_graph_inside_the_file_do_not_collide():
    raw = tiny(
        node("Identity", ["input"], ["logits"]),
        node("Softmax", ["logits"], ["probabilities"], axis=1),
        inputs=[floats("input", "B", 3)],
        outputs=[floats("probabilities", "B", 3), floats("logits", "B", 3)],
    )
    once = wrap(raw, VALUES, ABC, "t")
    twice = wrap(once, VALUES, ABC, "t")
    np.testing.assert_allclose(run(twice, VALUES)[0], softmax(VALUES), atol=1e-6)


@pytest.mark.parametrize("kind", [TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.UINT8])
def test_other_types_of_input_are_cast(kind):
    whole = np.random.default_rng(1).integers(0, 17, (20, 3)).astype(np.float32)
    raw = tiny(node("Cast", ["x"], ["y"], to=TensorProto.FLOAT), inputs=[floats("x", None, 3, kind=kind)])
    np.testing.assert_array_equal(run(wrap(raw, whole, ABC, "t"), whole)[1], whole)


@pytest.mark.parametrize("kind", [TensorProto.DOUBLE, TensorProto.FLOAT16])
def test_other_types_of_output_are_cast(kind):
    nodes = [node("Softmax", ["x"], ["p"], axis=1), node("Cast", ["p"], ["y"], to=kind)]
    raw = tiny(*nodes, outputs=[floats("y", None, 3, kind=kind)])
    np.testing.assert_allclose(run(wrap(raw, VALUES, ABC, "t"), VALUES)[0], softmax(VALUES), atol=1e-3)


@pytest.mark.parametrize("given", [(3,), (3, 1), (1, 3)])
def test_inputs_are_flattened_or_get_axes_of_length_one(given):
    """Row-major, so no number moves."""
    flat = weight("flat", [-1, 3])
    raw = tiny(node("Reshape", ["x", "flat"], ["y"]), inputs=[floats("x", "B", *given)], weights=[flat])
    inputs = VALUES.reshape(50, 3, 1)
    graph = wrap(raw, inputs, ABC, "t")
    assert interface(graph)["input"] == ["batch", 3, 1]
    np.testing.assert_array_equal(run(graph, inputs)[1], VALUES)


@pytest.mark.parametrize("shape", [("B", 1), ("B",)])
def test_one_column_is_the_probability_of_the_second_class(shape):
    nodes = [node("Sigmoid", ["x"], ["p"]), node("Reshape", ["p", "shape"], ["y"])]
    width = weight("shape", [-1, 1] if len(shape) == 2 else [-1])
    raw = tiny(*nodes, inputs=[floats("x", "B", 1)], outputs=[floats("y", *shape)], weights=[width])
    probabilities, logits = run(wrap(raw, VALUES[:, :1], ("no", "yes"), "t"), VALUES[:, :1])
    expected = 1 / (1 + np.exp(-VALUES[:, 0].astype(np.float64)))
    np.testing.assert_allclose(probabilities, np.stack([1 - expected, expected], axis=1), atol=1e-6)
    np.testing.assert_allclose(softmax(logits), probabilities, atol=1e-6)


def test_old_files_whose_weights_are_inputs_too():
    """Before the IR's version 4 every initializer was."""
    raw = tiny(
        node("Add", ["x", "w"], ["y"]),
        inputs=[floats("x", "B", 3), floats("w", 3)],
        weights=[weight("w", [1.0, 2.0, 3.0])],
        opsets=(("", 8),),
        ir=3,
    )
    graph = wrap(raw, VALUES, ABC, "t")
    np.testing.assert_allclose(run(graph, VALUES)[1], VALUES + np.array([1, 2, 3]), atol=1e-6)
    assert list(interface(graph)) == ["input", "probabilities", "logits"]
