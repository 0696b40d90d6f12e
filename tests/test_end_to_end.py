"""From a recipe to HTTP: what the service answers is what PyTorch computes from the weights that were trained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.served import Digits, free_port, serving


@pytest.fixture(scope="module")
def client(digits: Digits) -> Iterator[httpx.Client]:
    with serving(digits.models, free_port()) as client:
        yield client


def held_out(digits: Digits) -> tuple[np.ndarray, np.ndarray]:
    with np.load(digits.models / "digits-student" / "1" / "held-out.npz", allow_pickle=False) as file:
        return file["inputs"], file["labels"]


def logits_by_hand(weights: Path, member: int, inputs: np.ndarray) -> Tensor:
    """The network in four lines of PyTorch, from the run's own weights: an oracle without our modules."""
    tensors = load_file(weights)
    layers = sum(name.startswith("weights.") for name in tensors)
    hidden = torch.from_numpy(inputs.astype(np.float32)).flatten(1) / 16
    for layer in range(layers):
        hidden = hidden @ tensors[f"weights.{layer}"][member] + tensors[f"biases.{layer}"][member]
        hidden = hidden.relu() if layer < layers - 1 else hidden
    return hidden


def test_the_ensemble_over_http_is_the_mean_of_its_members_in_pytorch(client: httpx.Client, digits: Digits):
    """The graph, the manifest, the batching and the JSON between them change nothing."""
    inputs, _ = held_out(digits)
    members = [logits_by_hand(digits.run / "members-0.safetensors", m, inputs[:50]) for m in range(10)]
    expected = torch.stack([logits.softmax(dim=1) for logits in members]).mean(dim=0)
    answer = client.post("/predict", json={"model": "digits-ensemble", "inputs": inputs[:50].tolist()}).json()
    assert np.abs(np.array(answer["probabilities"]) - expected.numpy()).max() < 1e-5


def test_the_student_over_http_softens_as_pytorch_does(client: httpx.Client, digits: Digits):
    """Every temperature is softmax(logits / T)."""
    inputs, _ = held_out(digits)
    seed = client.get("/models/digits-student").json()["seeds"][0]
    expected = logits_by_hand(digits.run / "student-0.safetensors", seed - 5000, inputs[:20]).div(4).softmax(dim=1)
    answer = client.post("/predict", json={"inputs": inputs[:20].tolist(), "temperature": 4.0}).json()
    assert answer["model"] == "digits-student"
    assert np.abs(np.array(answer["probabilities"]) - expected.numpy()).max() < 1e-5


def test_the_manifests_figures_are_what_the_service_answers(client: httpx.Client, digits: Digits):
    """Errors counted over HTTP on the whole test part are those that the table states."""
    inputs, labels = held_out(digits)
    for model in client.get("/models").json()["models"]:
        answer = client.post("/predict", json={"model": model["name"], "inputs": inputs.tolist()}).json()
        errors = sum(said != model["classes"][label] for said, label in zip(answer["labels"], labels, strict=True))
        assert errors == model["metrics"]["errors"], model["name"]


def test_compare_agrees_with_the_results_table(client: httpx.Client, digits: Digits):
    """/compare on the whole held-out set gives the accuracies of the manifests."""
    report = client.post("/compare", json={"limit": 360, "blocks": 3, "scenarios": []}).json()
    stated = {model["name"]: model["metrics"]["accuracy"] for model in client.get("/models").json()["models"]}
    assert {model["name"]: model["accuracy"] for model in report["models"]} == {
        name: stated[name] for name in ("digits-student", "digits-ensemble", "digits-member")
    }


def test_the_student_is_at_least_ten_times_smaller_and_learned_from_the_published_ensemble(client: httpx.Client):
    """The manifest names the teacher by the hash of its graph."""
    student = client.get("/models/digits-student").json()
    ensemble = client.get("/models/digits-ensemble").json()
    assert ensemble["parameters"] >= 10 * student["parameters"]
    assert student["teacher"]["sha256"] == ensemble["files"]["model.onnx"]["sha256"]
