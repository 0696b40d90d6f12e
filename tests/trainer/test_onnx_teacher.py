"""Teachers of other makes: the standard graph around a file against the library that made it, and what is refused."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import skl2onnx
import torch
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from service.errors import ModelError
from service.foreign.answers import wrap
from service.foreign.counts import multiply_accumulates, parameters
from service.measures import FLOOR
from service.session import check_graph
from trainer.errors import ExportError
from trainer.onnx_teacher import OnnxTeacher, prove, read_teacher

ERRORS = (ExportError, ModelError)

WINE, KINDS_OF_WINE = load_wine(return_X_y=True)
WINE = WINE.astype(np.float32)  # thresholds are compared in float32 in ONNX
NAMES = ("barolo", "grignolino", "barbera")  # not in alphabetical order: scikit-learn sorts its columns
LABELS = np.array(NAMES)[KINDS_OF_WINE]
VALUES = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
ABC = ("a", "b", "c")


def scaled(model: BaseEstimator) -> Pipeline:
    return make_pipeline(StandardScaler(), model)


def vote() -> VotingClassifier:
    """`flatten_transform` is about transform() alone, but skl2onnx takes only False."""
    members = [("forest", RandomForestClassifier(5, random_state=0)), ("line", scaled(LogisticRegression()))]
    return VotingClassifier(members, voting="soft", flatten_transform=False)


MODELS = {
    "forest": lambda: RandomForestClassifier(20, random_state=0),
    "boosting": lambda: GradientBoostingClassifier(n_estimators=10, random_state=0),
    "line": lambda: scaled(LogisticRegression()),
    "vote": vote,
    "network": lambda: scaled(MLPClassifier((8,), solver="lbfgs", max_iter=2000, random_state=0)),
}


def converted(model: BaseEstimator, *, zipmap: bool, inputs: NDArray = WINE) -> bytes:
    return skl2onnx.to_onnx(model, inputs[:1], options={id(model): {"zipmap": zipmap}}).SerializeToString()


def answers_of(model: ClassifierMixin) -> NDArray:
    """predict_proba with its columns in the order of NAMES."""
    columns = [list(model.classes_).index(name) for name in NAMES] if model.classes_.dtype.kind == "U" else [0, 1, 2]
    return model.predict_proba(WINE)[:, columns]


def run(graph: bytes, inputs: NDArray) -> list[NDArray]:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return list(session.run(["probabilities", "logits"], {"input": inputs}))


def softmax(logits: NDArray) -> NDArray:
    return torch.from_numpy(np.array(logits, dtype=np.float64)).softmax(dim=-1).numpy()


def interface(graph: bytes) -> dict[str, list[object]]:
    proto = onnx.load_model_from_string(graph)
    onnx.checker.check_model(proto, full_check=True)
    return {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*proto.graph.input, *proto.graph.output)
    }


def tiny(
    *nodes: onnx.NodeProto,
    inputs: list[onnx.ValueInfoProto] | None = None,
    outputs: list[onnx.ValueInfoProto] | None = None,
    weights: Sequence[onnx.TensorProto] = (),
    opsets: Sequence[tuple[str, int]] = (("", 17), ("ai.onnx.ml", 3)),
    ir: int = 8,
) -> bytes:
    """`x` float [B, 3] -> `y` float [B, 3], by default the input itself."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        list(nodes) or [helper.make_node("Identity", ["x"], ["y"])],
        "tiny",
        inputs or [value("x", TensorProto.FLOAT, ["B", 3])],
        outputs or [value("y", TensorProto.FLOAT, ["B", 3])],
        list(weights),
    )
    opset_imports = [helper.make_opsetid(*opset) for opset in opsets]
    return helper.make_model(graph, opset_imports=opset_imports, ir_version=ir).SerializeToString()


def node(*arguments: Any, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(*arguments, **attributes)


def floats(name: str, *shape: str | int | None, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def weight(name: str, values: ArrayLike) -> onnx.TensorProto:
    array = np.array(values)
    return numpy_helper.from_array(array.astype(np.float32) if array.dtype == np.float64 else array, name)


# What scikit-learn answers


@pytest.mark.parametrize("zipmap", [True, False])
@pytest.mark.parametrize("labels", ["numbers", "names"])
@pytest.mark.parametrize("kind", MODELS)
def test_the_standard_graph_gives_what_scikit_learn_gives(kind, labels, zipmap):
    """Whatever the labels are and however they come out, the columns are in the order of the classes."""
    model = MODELS[kind]().fit(WINE, LABELS if labels == "names" else KINDS_OF_WINE)
    graph = wrap(converted(model, zipmap=zipmap), WINE, NAMES, "t")
    probabilities, logits = run(graph, WINE)
    np.testing.assert_allclose(probabilities, answers_of(model), atol=1e-5)
    np.testing.assert_allclose(softmax(logits), answers_of(model), atol=1e-5)
    assert interface(graph) == {"input": ["batch", 13], "probabilities": ["batch", 3], "logits": ["batch", 3]}
    check_graph(graph, "mine/1")


@pytest.mark.parametrize("zipmap", [True, False])
def test_a_teacher_is_read_and_proved(zipmap, tmp_path):
    """The proof is against the untouched file, with its maps from label to probability."""
    model = vote().fit(WINE, LABELS)
    (path := tmp_path / "teacher.onnx").write_bytes(converted(model, zipmap=zipmap))
    made = read_teacher(path, WINE, NAMES)
    assert made.graph == wrap(path.read_bytes(), WINE, NAMES, "t")
    assert made.largest_difference < 1e-6
    assert made.parameters > 2 * 13 + 3 * 14  # the scaler and the line; the trees come on top
    assert made.multiply_accumulates == 3 * 13 + 5
    np.testing.assert_allclose(OnnxTeacher(made.graph).predict(WINE).exp(), answers_of(model), atol=1e-5)


def test_two_classes():
    """skl2onnx gives both columns."""
    inputs, labels = load_breast_cancer(return_X_y=True)
    model = GradientBoostingClassifier(n_estimators=10, random_state=0).fit(inputs := inputs.astype(np.float32), labels)
    graph = wrap(converted(model, zipmap=True, inputs=inputs), inputs, ("malignant", "benign"), "t")
    np.testing.assert_allclose(run(graph, inputs)[0], model.predict_proba(inputs), atol=1e-5)


def test_logits_of_probabilities_are_their_clamped_logarithm():
    """A forest is often certain: log 0 is the floor, as of an ensemble."""
    model = MODELS["forest"]().fit(WINE, KINDS_OF_WINE)
    logits = run(wrap(converted(model, zipmap=False), WINE, NAMES, "t"), WINE)[1]
    expected = np.log(np.maximum(model.predict_proba(WINE), 1e-30))
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    assert logits.min() == pytest.approx(FLOOR)
    assert np.isfinite(logits).all()


def test_nothing_that_the_answer_does_not_need_is_inside():
    """No ZipMap, no label, no remark, and the same bytes each time."""
    raw = onnx.load_model_from_string(converted(MODELS["vote"]().fit(WINE, LABELS), zipmap=True))
    raw.doc_string = raw.graph.doc_string = raw.graph.node[0].doc_string = "a remark"
    raw.metadata_props.add(key="made by", value="someone")
    graph = wrap(raw.SerializeToString(), WINE, NAMES, "t")
    operators = {part.op_type for part in onnx.load_model_from_string(graph).graph.node}
    assert not operators & {"ZipMap", "ArgMax", "ArrayFeatureExtractor"}
    assert b"remark" not in graph
    assert b"someone" not in graph
    assert graph == wrap(raw.SerializeToString(), WINE, NAMES, "t")


def test_labels_that_differ_are_refused():
    raw = converted(MODELS["forest"]().fit(WINE, LABELS), zipmap=True)
    message = r"^t: its classes are barbera, barolo, grignolino; expected red, white, rosé \(in any order\) or 0 to 2$"
    with pytest.raises(ERRORS, match=message):
        wrap(raw, WINE, ("red", "white", "rosé"), "t")


def test_xgboost_through_onnxmltools():
    """Its file imports ai.onnx.ml alone."""
    xgboost, onnxmltools = pytest.importorskip("xgboost"), pytest.importorskip("onnxmltools")
    types = pytest.importorskip("onnxmltools.convert.common.data_types")
    model = xgboost.XGBClassifier(n_estimators=10).fit(WINE, KINDS_OF_WINE)
    raw = onnxmltools.convert_xgboost(model, initial_types=[("input", types.FloatTensorType([None, 13]))])
    probabilities, _ = run(wrap(raw.SerializeToString(), WINE, NAMES, "t"), WINE)
    np.testing.assert_allclose(probabilities, model.predict_proba(WINE), atol=1e-5)


# What PyTorch answers


# Small graphs by hand


def test_the_numbers_of_a_tree_are_counted_by_hand():
    """One split: a threshold and two leaves; it multiplies nothing."""
    tree = node(
        "TreeEnsembleClassifier",
        ["x"],
        ["label", "y"],
        domain="ai.onnx.ml",
        class_ids=[0, 1],
        class_nodeids=[1, 2],
        class_treeids=[0, 0],
        class_weights=[1.0, 1.0],
        classlabels_strings=["b", "a", "c"],
        nodes_falsenodeids=[2, 0, 0],
        nodes_featureids=[0, 0, 0],
        nodes_hitrates=[1.0, 1.0, 1.0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
        nodes_nodeids=[0, 1, 2],
        nodes_treeids=[0, 0, 0],
        nodes_truenodeids=[1, 0, 0],
        nodes_values=[0.0, 0.0, 0.0],
        post_transform="NONE",
    )
    outputs = [floats("label", "B", kind=TensorProto.STRING), floats("y", "B", 3)]
    graph = wrap(tiny(tree, outputs=outputs), VALUES, ABC, "t")
    below = VALUES[:, 0] <= 0
    np.testing.assert_allclose(run(graph, VALUES)[0], np.stack([~below, below, below & False], axis=1), atol=1e-6)
    assert (parameters(graph), multiply_accumulates(graph)) == (3 + 2, 1)


def test_the_proof_sees_another_graph():
    """And says by how much the two differ."""
    graph = wrap(tiny(), VALUES, ABC, "t")
    with pytest.raises(ERRORS, match=r"^t: the standard graph differs from the file by 0\.\d+, at most 0\.0001"):
        prove(graph, softmax(-VALUES), VALUES, "t")
    with pytest.raises(ERRORS, match="differs from the file by nan"):
        prove(graph, softmax(VALUES) * math.nan, VALUES, "t")


def test_predict_is_the_same_in_batches():
    """More rows than one batch holds, log p of each."""
    many = np.tile(VALUES, (50, 1))
    found = OnnxTeacher(wrap(tiny(), VALUES, ABC, "t")).predict(many)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, np.log(softmax(many)), atol=1e-5)


# What is refused
