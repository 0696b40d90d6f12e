"""ONNX files that cannot be teachers: each is refused with its reason."""

import onnx
import pytest
from onnx import TensorProto, helper

from service.foreign.answers import wrap
from tests.trainer.test_onnx_teacher import ABC, ERRORS, VALUES, floats, node, tiny, weight
from trainer.onnx_teacher import read_teacher


def branch() -> bytes:
    def body(name: str) -> onnx.GraphProto:
        return helper.make_graph([node("Identity", ["x"], [name])], name, [], [floats(name, "B", 3)])

    condition = weight("c", True)
    return tiny(
        node("If", ["c"], ["y"], then_branch=body("then"), else_branch=body("else")),
        weights=[condition],
    )


def external() -> bytes:
    tensor = weight("w", [1.0, 2.0, 3.0])
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    return tiny(node("Add", ["x", "w"], ["y"]), weights=[tensor])


def fixed_inside() -> bytes:
    """The batch is free by its type and 50 by a Reshape, as older exporters left it."""
    return tiny(node("Reshape", ["x", "shape"], ["y"]), weights=[weight("shape", [50, 3])])


TWO_ANSWERS = (node("Identity", ["x"], ["y"]), node("Neg", ["x"], ["z"]))


PAIR = [floats("y", "B", 3), floats("z", "B", 3)]


REFUSED = {
    "text": (b"no graph", "t: not an ONNX file"),
    "nothing": (b"", "t: not an ONNX file: 0 bytes without an operator"),
    "two inputs": (
        tiny(node("Add", ["x", "z"], ["y"]), inputs=[floats("x", "B", 3), floats("z", "B", 3)]),
        "t: takes 2 inputs (x float [B, 3], z float [B, 3]), expected one, [B, 3]",
    ),
    "text as input": (
        tiny(node("StringNormalizer", ["x"], ["y"]), inputs=[floats("x", None, 3, kind=TensorProto.STRING)]),
        "t: takes x string [?, 3], expected numbers (float or integer)",
    ),
    "another shape": (
        tiny(inputs=[floats("x", "B", 4)], outputs=[floats("y", "B", 4)]),
        "t: takes x float [B, 4], expected [B, 3]",
    ),
    "a fixed batch": (
        tiny(inputs=[floats("x", 1, 3)], outputs=[floats("y", 1, 3)]),
        "t: takes x float [1, 3]: a batch of 1 alone; export it with a free batch",
    ),
    "no wide output": (
        tiny(node("ReduceSum", ["x"], ["y"], keepdims=0), outputs=[floats("y")]),
        "t: no output is float [B, 3], one column a class; it gives y float []",
    ),
    "labels alone": (
        tiny(node("ArgMax", ["x"], ["y"], axis=1), outputs=[floats("y", "B", 1, kind=TensorProto.INT64)]),
        "t: no output is float [B, 3], one column a class; it gives y int64 [B, 1]",
    ),
    "two answers": (tiny(*TWO_ANSWERS, outputs=PAIR), "t: ambiguous: each of y, z could be the answer, expected one"),
    "sigmoids": (tiny(node("Sigmoid", ["x"], ["y"])), "t: ambiguous: output y looks like probabilities, but its rows"),
    "NaN": (tiny(node("Log", ["x"], ["y"])), "t: output y is not finite (NaN or infinite) on"),
    "an old opset": (tiny(opsets=(("", 7),)), "t: opset 7 of ai.onnx, expected 8 or later; export it again"),
    "control flow": (branch(), "t: operator If holds a nested graph: control flow is refused"),
    "another domain": (
        tiny(node("Gelu", ["x"], ["y"], domain="com.microsoft"), opsets=(("", 17), ("com.microsoft", 1))),
        "t: operator Gelu is of domain 'com.microsoft', expected a standard one",
    ),
    "weights elsewhere": (external(), "t: model.onnx keeps weights in other files; a model is one file"),
    "an operator that onnxruntime lacks": (
        tiny(node("Nonsense", ["x"], ["y"])),
        "t: onnxruntime cannot run it on [N, 3]:",
    ),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_a_teacher_is_refused_with_the_reason(why):
    """What was given, what was expected, what there is."""
    raw, message = REFUSED[why]
    with pytest.raises(ERRORS) as caught:
        wrap(raw, VALUES, ABC, "t")
    assert str(caught.value).startswith(message)


def test_a_column_outside_0_to_1_is_refused():
    raw = tiny(inputs=[floats("x", "B", 1)], outputs=[floats("y", "B", 1)])
    with pytest.raises(ERRORS, match=r"^t: output y is one column with values outside 0 to 1, expected prob"):
        wrap(raw, VALUES[:, :1], ("no", "yes"), "t")


def test_inputs_that_an_integer_graph_cannot_take_are_refused():
    raw = tiny(node("Cast", ["x"], ["y"], to=TensorProto.FLOAT), inputs=[floats("x", None, 3, kind=TensorProto.INT64)])
    with pytest.raises(ERRORS, match=r"^t: takes x int64 \[\?, 3\], but the inputs are not such numbers"):
        wrap(raw, VALUES, ABC, "t")


def test_a_batch_fixed_inside_is_refused(tmp_path):
    path = tmp_path / "fixed.onnx"
    path.write_bytes(fixed_inside())
    with pytest.raises(ERRORS, match="does not answer every number of rows"):
        read_teacher(path, VALUES, ABC)


def test_a_file_that_is_not_there(tmp_path):
    """The error lists those that are."""
    (tmp_path / "forest.onnx").write_bytes(tiny())
    message = r"none\.onnx: No such file or directory; expected an ONNX file; available: forest\.onnx$"
    with pytest.raises(ERRORS, match=message):
        read_teacher(tmp_path / "none.onnx", VALUES, ABC)
