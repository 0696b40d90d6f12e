"""Ordinary modules in the training loop: the network that ships and the user's own."""

import re
import sys

import numpy as np
import pytest
import torch
from torch import nn

from tests.trainer.conftest import trainer_here
from trainer.errors import RecipeError
from trainer.fit import Examples, fit, score
from trainer.modules import Module, make_module, source_sha256
from trainer.networks import Normalise
from trainer.objectives import hard
from trainer.recipe import Training

IDENTITY = Normalise(torch.tensor(0.0), torch.tensor(1.0))
RANDOM = np.random.default_rng(0)
LABELS = torch.arange(120) % 3
IMAGES = torch.from_numpy(RANDOM.random((120, 6, 7), np.float32)) / 4
IMAGES[torch.arange(120), 1 + LABELS] += 0.75
STRIPES = Examples(IMAGES, LABELS)
SETTINGS = Training(network="cnn", hidden=(4, 6, 8), epochs=4, batch_size=16, learning_rate=1e-2)
CODE = """
from torch import nn

def dropping(shape, classes):
    first = nn.Linear(shape[0] * shape[1], 16)
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, classes))

def wrong(shape, classes):
    return nn.Flatten(), classes

def empty(shape, classes):
    return nn.Flatten()

def narrow(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1], 1))

def failing(shape, classes):
    return nn.Linear(5, classes)

number = 3
"""


@pytest.fixture
def own_code(tmp_path, monkeypatch):
    """A module `mine` with factories in it."""
    (tmp_path / "mine.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    return tmp_path


def make(name: str, seed: int = 3) -> Module:
    return make_module(name, (6, 7), 3, SETTINGS.hidden, seed, IDENTITY)


def train(
    folder, name: str, settings: Training = SETTINGS, epochs: int | None = None
) -> tuple[Module, list[torch.Tensor]]:
    """Trains a module, or stops after some epochs, and gives what it has learnt."""
    network = make(name)

    def report(progress) -> None:
        if progress.epoch == epochs:
            raise KeyboardInterrupt

    fit(network, STRIPES, STRIPES, hard, settings, [3], folder / "checkpoint", report)
    return network, [tensor.detach().clone() for tensor in network.learnt()]


@pytest.mark.parametrize("name", ["cnn", "mine:dropping"])
def test_a_module_learns(tmp_path, own_code, name):
    """Stripes are told apart, in evaluation mode."""
    settings = SETTINGS.model_copy(update={"epochs": 12})
    network, _ = train(tmp_path, name, settings)
    errors, _ = score(network, STRIPES)
    assert errors.item() < 12


@pytest.mark.parametrize("name", ["cnn", "mine:dropping"])
def test_resuming_a_module_ends_with_the_same_bits(tmp_path, own_code, name, monkeypatch):
    """Its dropout, its statistics of batch normalisation and its best epoch are in the checkpoint."""
    monkeypatch.setattr("trainer.fit.SAVE_EVERY_S", -1.0)
    _, whole = train(tmp_path / "whole", name)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", name, epochs=2)
    _, resumed = train(tmp_path / "parts", name)
    assert all(torch.equal(one, other) for one, other in zip(whole, resumed, strict=True))


def test_training_does_not_move_the_worlds_random_numbers(tmp_path, own_code):
    """What a module draws comes from its member's generator."""
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    train(tmp_path, "mine:dropping")
    assert torch.equal(torch.rand(1), expected)


def test_a_module_is_in_training_mode_after_a_validation(own_code):
    """It is not left in evaluation mode: two draws differ, two validations do not."""
    network, generators = make("mine:dropping"), [torch.Generator().manual_seed(0)]
    batch = IMAGES[None, :5]
    assert torch.equal(network(batch), network(batch))
    assert not torch.equal(network(batch, generators), network(batch, generators))


def test_the_seed_decides_the_initial_weights():
    """And nothing else does."""
    assert torch.equal(make("cnn").learnt()[0], make("cnn").learnt()[0])
    assert not torch.equal(make("cnn").learnt()[0], make("cnn", seed=4).learnt()[0])


def test_the_exported_network_answers_as_the_trained_one(tmp_path):
    """Raw inputs in, batch normalisation frozen."""
    network, _ = train(tmp_path, "cnn")
    torch.testing.assert_close(network.member(0)(IMAGES), network(IMAGES[None])[0], rtol=0, atol=0)


def test_bfloat16_learns_the_same_task_with_float32_weights(tmp_path):
    """Only the products of a training step are of less precision."""
    settings = SETTINGS.model_copy(update={"epochs": 12, "precision": "bfloat16"})
    network, learnt = train(tmp_path, "cnn", settings)
    assert {tensor.dtype for tensor in learnt} <= {torch.float32, torch.int64}
    assert score(network, STRIPES)[0].item() < 12
    other = SETTINGS.model_copy(update={"epochs": 12})
    assert not torch.equal(learnt[0], train(tmp_path / "other", "cnn", other)[1][0])


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "absent:factory",
            "network 'absent:factory': cannot import absent: No module named 'absent'; expected mlp, cnn",
        ),
        ("mine:nothing", "network 'mine:nothing': mine has no 'nothing'"),
        ("mine:number", "network 'mine:number': it is int, expected a function of (shape, classes)"),
        ("mine:wrong", "network 'mine:wrong': it made tuple, expected a torch.nn.Module"),
        ("mine:empty", "network 'mine:empty': it has no parameters to train"),
        ("mine:narrow", "network 'mine:narrow' gives [2, 1] for inputs [2, 6, 7], expected logits [2, 3]"),
        ("mine:failing", "network 'mine:failing' fails on inputs [2, 6, 7]: "),
    ],
)
def test_a_factory_that_makes_no_network_is_told(own_code, name, told):
    """Which one, what it gave, what was expected."""
    with pytest.raises(RecipeError, match=re.escape(told)):
        make(name)


def test_convolutions_are_for_images():
    """Features have no neighbours."""
    told = re.escape("network 'cnn' takes images [H, W] and one width or more, got [13] and [8]")
    with pytest.raises(RecipeError, match=told):
        make_module("cnn", (13,), 3, (8,), 0, IDENTITY)


def test_a_student_that_cannot_be_is_told_before_its_ensemble_is_trained(tmp_path):
    np.savez(tmp_path / "flat.npz", inputs=np.arange(60.0).reshape(30, 2), labels=np.arange(30) % 2)
    (tmp_path / "late.toml").write_text('data = "flat.npz"\n[student]\nnetwork = "cnn"\nhidden = [4]\n')
    done = trainer_here("train", "late.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert "network 'cnn' takes images [H, W] and one width or more, got [2] and [4]" in done.stderr
    assert "members" not in done.stdout + done.stderr


def test_other_code_is_another_run(own_code):
    """The file of a factory counts; a network that ships has none."""
    before = source_sha256("mine:dropping")
    (own_code / "mine.py").write_text(CODE.replace("16", "17"))
    assert source_sha256("mine:dropping") != before
    assert source_sha256("cnn") == source_sha256("mlp")


def test_batch_normalisation_counts_as_learnt():
    """Running statistics are kept with the best epoch, as parameters are."""
    norms = [layer for layer in make("cnn").network.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert len(norms) == 3
    assert len(make("cnn").learnt()) == len(list(make("cnn").network.parameters())) + 3 * len(norms)
