"""The last layers of specialists: how they begin as the generalist's, and what is left of them."""

import math

import pytest
import torch
from torch import nn

from tests.trainer.test_specialists import CLASSES, GROUPS
from trainer.errors import TrainerError
from trainer.heads import NEVER, cut, start_of
from trainer.modules import make_module
from trainer.networks import Normalise, Stack


def test_a_specialist_begins_as_the_generalist():
    """Odds among the special classes are the generalist's to the bit; where all others are equal, the dustbin has
    exactly their mass."""
    normalise = Normalise(torch.tensor(1.0), torch.tensor(2.0))
    stack = Stack((3, 4, CLASSES), [0], normalise)
    with torch.no_grad():
        stack.weights[1][0][:, [0, 1, 5]] = stack.weights[1][0][:, :1].clone()
    start = start_of(stack.member(0), "mlp", GROUPS, CLASSES, 4)
    specialists = Stack((3, 4, 4), [7, 8], Normalise(torch.tensor(0.0), torch.tensor(0.0)))
    specialists.load_state_dict(start)
    inputs = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    full = stack.member(0)(inputs)
    first, second = specialists(inputs.expand(2, 9, 3))
    torch.testing.assert_close(second[:, 1:], full[:, [2, 3, 4]])
    torch.testing.assert_close(second.softmax(dim=-1)[:, 1:], full.softmax(dim=-1)[:, [2, 3, 4]])
    torch.testing.assert_close(first[:, 1:3], full[:, :2])
    assert (first[:, 3] < NEVER / 2).all()
    assert (first.softmax(dim=-1)[:, 3] == 0).all()


@pytest.mark.parametrize("network", ["cnn", "tests.trainer.test_heads:bare"])
def test_any_network_with_a_linear_end_is_a_generalist(network):
    """Convolutions, their statistics, and a factory's own network whose last layer has no bias."""
    normalise = Normalise(torch.tensor(0.0), torch.tensor(1.0))
    whole = make_module(network, (8, 8), CLASSES, (4, 6), 0, normalise).member(0)
    start = start_of(whole, network, [(2, 3, 4)], CLASSES, 4)
    specialist = make_module(network, (8, 8), 4, (4, 6), 1, normalise)
    specialist.load_state_dict(start)
    images = torch.randn(5, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(specialist.member(0)(images)[:, 1:], whole(images)[:, 2:5])


def bare(shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 7), nn.ReLU(), nn.Linear(7, classes, bias=False))


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (nn.Sequential(nn.Linear(3, 5)), "network 'mine' ends in 5 outputs: specialists start from a generalist whose"),
        (nn.Sequential(nn.Flatten()), "network 'mine' has no linear layer: specialists start from a generalist whose"),
    ],
)
def test_a_generalist_that_does_not_fit_is_told(network, told):
    with pytest.raises(TrainerError) as caught:
        start_of(network, "mine", GROUPS[:1], CLASSES, 3)
    assert str(caught.value).startswith(told)
    assert str(caught.value).endswith("last layer is a torch.nn.Linear of 6 outputs, one for each class")


def test_padding_never_is_and_is_cut():
    """A network of four columns becomes one of three; the others stay to the bit."""
    network = nn.Sequential(nn.Linear(2, 4), nn.Identity())
    inputs = torch.randn(3, 2)
    expected = network(inputs)[:, :3]
    assert torch.equal(cut(network, 3)(inputs), expected)
