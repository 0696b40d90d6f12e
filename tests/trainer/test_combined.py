"""Generalists, specialists and their combination as one module and one graph, served like any other."""

from datetime import UTC, datetime

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from service.manifest import (
    Combination,
    DataReference,
    FileRecord,
    InputSpec,
    Manifest,
    Metrics,
    write_manifest,
)
from service.measures import FLOOR
from service.model import load_model
from service.session import check_graph, open_session
from trainer.combination import combine
from trainer.combined import Combined, Voting, votes_on
from trainer.export import Exported, export
from trainer.groups import Group

CLASSES = 6
DISJOINT: list[Group] = [(0, 1), (2, 3, 4)]
SHARED: list[Group] = [(0, 1, 2), (2, 3), (1, 3, 4)]
INPUTS = np.random.default_rng(0).normal(size=(400, 2, 3)).astype(np.float32)


def networks(outputs: list[int], width: float = 3.0) -> list[nn.Module]:
    torch.manual_seed(0)
    made = [nn.Sequential(nn.Flatten(), nn.Linear(6, count)) for count in outputs]
    for network in made:
        nn.init.normal_(network[1].weight, std=width)
    return list(made)


def combined(groups: list[Group], top: int, method, steps: int, full: int = 1, width: float = 3.0) -> Combined:
    generalists = networks([CLASSES] * full, width)
    specialists = networks([1 + len(group) for group in groups], width)
    return Combined(generalists, specialists, Voting(groups, CLASSES, top), method, steps).eval()


MODULES = {
    "disjoint": combined(DISJOINT, 1, "plain", 1),
    "disagreeing": combined(SHARED, 1, "newton", 3, full=2, width=8.0),
}


@pytest.fixture(scope="module")
def exported() -> tuple[Combined, Exported]:
    """Of the harder one; the other kind is exported where a whole recipe is trained."""
    return MODULES["disagreeing"], export(MODULES["disagreeing"], INPUTS)


def test_the_graph_equals_pytorch(exported):
    """Probabilities and logits, in one batch and row by row, on real inputs and on zeros."""
    module, made = exported
    assert made.largest_difference < 1e-4
    session = open_session(made.graph, device="cpu", threads=1)
    for inputs in (INPUTS, INPUTS[:1], np.zeros((3, 2, 3), np.float32)):
        probabilities, logits = session.run(["probabilities", "logits"], {"input": inputs})
        expected = module(torch.from_numpy(inputs))
        np.testing.assert_allclose(probabilities, expected[0].detach(), atol=1e-4)
        np.testing.assert_allclose(np.exp(logits), expected[1].detach().exp(), atol=1e-4)


def test_the_graph_has_neither_control_flow_nor_foreign_operators(exported):
    """The check of the service lets it pass."""
    check_graph(exported[1].graph, "x/1")


def test_nothing_in_float64_is_transposed_and_then_multiplied(exported):
    """onnxruntime before 1.26, as in many a Triton, fuses the two, and has no kernel for that in float64."""
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(exported[1].graph)).graph
    doubles = {value.name for value in graph.value_info if value.type.tensor_type.elem_type == onnx.TensorProto.DOUBLE}
    transposed = {name for node in graph.node if node.op_type == "Transpose" for name in node.output} & doubles
    products = [node for node in graph.node if node.op_type in ("MatMul", "Gemm") and doubles & {*node.output}]
    assert products
    assert not [node.name for node in products if transposed & {*node.input}]


def test_its_networks_are_counted(exported):
    """The combination itself has nothing that is trained."""
    module, made = exported
    parts = [*module.generalists, *module.specialists]
    assert made.parameters == sum(parameter.numel() for part in parts for parameter in part.parameters())
    assert made.multiply_accumulates >= sum(part[1].weight.numel() for part in parts)


def test_it_is_loaded_like_any_model(exported, tmp_path):
    """Manifest, checksum, graph check, canary."""
    module, made = exported
    groups = tuple(tuple("abcdef"[label] for label in group) for group in SHARED)
    manifest = Manifest(
        name="x-specialists",
        version=1,
        role="specialists",
        classes=tuple("abcdef"),
        input=InputSpec(shape=(2, 3)),
        combination=Combination(
            generalists=len(module.generalists),
            groups=groups,
            top_classes=module.voting.top,
            method=module.method,
            steps=module.steps,
            largest_error=0.0,
        ),
        recipe={},
        data=DataReference(name="x", sha256="0" * 64),
        seeds=(0,),
        metrics=Metrics(examples=1, errors=0, accuracy=1.0, accuracy_interval=(0.2, 1.0), nll=0.1, ece=0.1),
        largest_difference=made.largest_difference,
        parameters=made.parameters,
        multiply_accumulates=made.multiply_accumulates,
        bytes=len(made.graph),
        files={"model.onnx": FileRecord(bytes=len(made.graph), sha256=made.sha256)},
        libraries={},
        created=datetime.now(UTC),
    )
    folder = tmp_path / "x-specialists" / "1"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(made.graph)
    write_manifest(folder, manifest)
    model = load_model(folder, device="cpu")
    np.testing.assert_allclose(
        model.run(INPUTS).probabilities_BK, module(torch.from_numpy(INPUTS))[0].detach(), atol=1e-4
    )


def test_its_logits_are_log_p_with_a_floor():
    """As an ensemble's: they soften at every temperature."""
    with torch.no_grad():
        probabilities, logits = MODULES["disagreeing"](torch.from_numpy(30 * INPUTS))
    assert logits.min().item() == pytest.approx(FLOOR, abs=1e-4)
    torch.testing.assert_close(logits.exp(), probabilities, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(probabilities.sum(dim=-1), torch.ones(len(INPUTS)))


def test_several_generalists_are_as_many_models():
    """The same one twice counts twice, and is not the same as once."""
    once = MODULES["disjoint"]
    twice = Combined([*once.generalists] * 2, list(once.specialists), once.voting, "plain", 1)
    inputs = torch.from_numpy(INPUTS)
    full = once.generalists[0](inputs).double().softmax(dim=-1)
    alone, doubled = combine(once.votes(inputs), "plain", 1), combine(twice.votes(inputs), "plain", 1)
    label = int(full[0].argmax())
    assert label != 5
    assert (alone - doubled)[0].abs().max().item() > 1e-3
    torch.testing.assert_close(2 * alone[0] + full[0], 3 * doubled[0])  # disjoint groups: 1/2 (g + s), 1/3 (2 g + s)


def test_votes_do_not_depend_on_the_batches():
    module, inputs = MODULES["disagreeing"], torch.from_numpy(INPUTS)
    parts = [torch.cat(tensors) for tensors in zip(*votes_on(module, inputs, 33), strict=True)]
    for whole, part in zip(module.votes(inputs), parts, strict=True):
        torch.testing.assert_close(whole.detach(), part)


def test_votes_worked_by_hand():
    """Groups (0, 1) and (1, 2) of four classes: class 1 as the most probable one asks both, class 0 the first."""
    say = [torch.tensor([[0.5, 0.4, 0.1]] * 2), torch.tensor([[0.2, 0.7, 0.1]] * 2)]
    log_p = torch.tensor([[[0.1, 0.6, 0.2, 0.1], [0.6, 0.1, 0.2, 0.1]]], dtype=torch.float64).log()
    votes = Voting([(0, 1), (1, 2)], 4, 1)(log_p, [p.double().log() for p in say])
    expected = torch.tensor([[0.5, 1.4, 0.3, 0.1], [1.0, 0.2, 0.2, 0.1]], dtype=torch.float64)
    torch.testing.assert_close(votes.given_BK, expected, atol=1e-7, rtol=0)
    assert sorted(votes.dustbin_BA[0].tolist()) == pytest.approx([0.2, 0.5])
    assert sorted(votes.dustbin_BA[1].tolist()) == pytest.approx([0.0, 0.5])
    assert votes.models.flatten().tolist() == pytest.approx([3.0, 2.0])
    assert votes.outside_BAK[1].sum(dim=0).tolist() == [0.0, 0.0, 1.0, 1.0]
