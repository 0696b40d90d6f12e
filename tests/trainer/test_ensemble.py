"""Means of distributions against hand-worked cases and float64 numpy."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from service.measures import FLOOR
from trainer.ensemble import Ensemble, Single, log_mean, predict

TWO = torch.tensor([[[0.8, 0.2]], [[0.4, 0.6]]], dtype=torch.float64).log()
MEANS = ("arithmetic", "geometric")


def networks(count: int) -> list[nn.Module]:
    torch.manual_seed(0)
    return [nn.Sequential(nn.Flatten(), nn.Linear(6, 4)) for _ in range(count)]


def inputs(batch: int = 9) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(batch, 2, 3)).astype(np.float32))


def test_the_arithmetic_mean_worked_by_hand():
    """(0.8, 0.2) and (0.4, 0.6) give (0.6, 0.4)."""
    assert log_mean(TWO, "arithmetic").exp()[0].tolist() == pytest.approx([0.6, 0.4], abs=1e-15)


def test_the_geometric_mean_worked_by_hand():
    """sqrt(0.32) and sqrt(0.12), divided by their sum."""
    first, second = math.sqrt(0.32), math.sqrt(0.12)
    expected = [first / (first + second), second / (first + second)]
    assert log_mean(TWO, "geometric").exp()[0].tolist() == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("mean", MEANS)
def test_equal_members_equal_one(mean):
    """An ensemble of the same network three times over is that network."""
    (network,) = networks(1)
    probabilities, logits = Ensemble([network] * 3, mean)(inputs())
    expected = network(inputs()).softmax(dim=-1)
    torch.testing.assert_close(probabilities, expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(logits, expected.log(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mean", MEANS)
def test_an_ensemble_equals_numpy(mean):
    """Probabilities are the mean of the members' own, in float64."""
    members = networks(5)
    each = np.stack([member(inputs()).detach().double().numpy() for member in members])
    each = np.exp(each) / np.exp(each).sum(axis=-1, keepdims=True)
    expected = each.mean(axis=0) if mean == "arithmetic" else np.exp(np.log(each).mean(axis=0))
    expected /= expected.sum(axis=-1, keepdims=True)
    probabilities, logits = Ensemble(members, mean)(inputs())
    np.testing.assert_allclose(probabilities.detach(), expected, rtol=1e-5)
    np.testing.assert_allclose(logits.detach(), np.log(expected), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 2.0, 20.0])
def test_logits_soften_as_log_p(temperature):
    """softmax(logits / T) is p^(1/T), normalised: every temperature comes from log p at T = 1."""
    probabilities, logits = Ensemble(networks(3), "arithmetic")(inputs())
    expected = probabilities.double() ** (1 / temperature)
    expected /= expected.sum(dim=-1, keepdim=True)
    torch.testing.assert_close((logits.double() / temperature).softmax(dim=-1), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("mean", MEANS)
def test_log_probabilities_have_a_floor(mean):
    """A class that every member excludes keeps log 1e-30, which still softens."""
    certain = torch.tensor([[[0.0, -500.0, -math.inf]]] * 2)
    log_p = log_mean(certain, mean)
    assert log_p[0].tolist() == pytest.approx([0.0, FLOOR, FLOOR], abs=1e-6)
    assert pytest.approx(1e-30) == math.exp(FLOOR)
    assert torch.isfinite((log_p / 20.0).softmax(dim=-1)).all()


def test_certain_members_that_disagree_share_the_mass():
    """Arithmetic: half each. Logits of thousands neither overflow nor vanish."""
    members = [nn.Linear(1, 2, bias=False) for _ in range(2)]
    with torch.no_grad():
        members[0].weight.copy_(torch.tensor([[5000.0], [-5000.0]]))
        members[1].weight.copy_(torch.tensor([[-5000.0], [5000.0]]))
    probabilities, logits = Ensemble(members, "arithmetic")(torch.ones(1, 1))
    assert probabilities[0].tolist() == pytest.approx([0.5, 0.5])
    assert logits[0].tolist() == pytest.approx([math.log(0.5)] * 2)


def test_a_single_network_is_served_with_its_own_logits():
    """And with their softmax."""
    (network,) = networks(1)
    probabilities, logits = Single(network)(inputs())
    assert torch.equal(logits, network(inputs()))
    torch.testing.assert_close(probabilities, logits.softmax(dim=-1))


def test_predict_does_not_depend_on_the_batch_size():
    """Nine rows in batches of four; of a served module the logits, of a network its output."""
    members = networks(2)
    ensemble = Ensemble(members, "arithmetic")
    torch.testing.assert_close(predict(ensemble, inputs(), batch_size=4), ensemble(inputs())[1].detach())
    torch.testing.assert_close(predict(members[0], inputs(), batch_size=4), members[0](inputs()).detach())
    assert not predict(members[0], inputs()).requires_grad
