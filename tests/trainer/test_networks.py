"""Stacks of networks against numpy, one member at a time."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from service.manifest import ImageSpec
from trainer.networks import Normalise, Stack, normalise_for, parameters

IDENTITY = Normalise(torch.tensor(0.0), torch.tensor(1.0))
DIGITS = Normalise(torch.tensor(0.0), torch.tensor(16.0))


def inputs(members: int, batch: int = 6, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).uniform(0, 16, (members, batch, *shape)).astype(np.float32))


def by_hand(stack: Stack, member: int, raw: NDArray) -> NDArray[np.float64]:
    """Logits [B, K] of one member, in float64 numpy."""
    mean, scale = (buffer.double().numpy() for buffer in (stack.normalise.mean, stack.normalise.scale))
    hidden = ((raw.astype(np.float64) - mean) / scale).reshape(len(raw), -1)
    for index, (weight, bias) in enumerate(zip(stack.weights, stack.biases, strict=True)):
        hidden = hidden @ weight[member].detach().double().numpy() + bias[member].detach().double().numpy()
        if index < len(stack.weights) - 1:
            hidden = np.maximum(hidden, 0)
    return hidden


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.mark.parametrize("sizes", [(64, 10), (64, 16, 10), (64, 16, 12, 3)])
def test_stack_equals_its_members_in_numpy(sizes):
    """M networks in one matrix product are M networks."""
    stack = Stack(sizes, seeds=[3, 1, 4], normalise=DIGITS)
    raw = inputs(3, 6, 8, 8)
    logits = stack(raw).detach().numpy()
    assert logits.shape == (3, 6, sizes[-1])
    for member in range(3):
        np.testing.assert_allclose(logits[member], by_hand(stack, member, raw[member].numpy()), rtol=1e-4, atol=1e-5)


def test_member_is_the_same_network_for_export():
    """Stack.member gives an ordinary network with the same logits."""
    stack = Stack((64, 16, 10), seeds=[3, 1], normalise=DIGITS)
    raw = inputs(1, 6, 8, 8)[0]
    for index in range(2):
        network = stack.member(index)
        assert isinstance(network, nn.Sequential)
        np.testing.assert_allclose(
            network(raw).detach().numpy(), by_hand(stack, index, raw.numpy()), rtol=1e-4, atol=1e-5
        )


def test_member_is_a_copy():
    """A network taken out of a stack does not move when the stack is trained on."""
    stack = Stack((64, 16, 10), seeds=[3], normalise=DIGITS)
    raw = inputs(1, 6, 8, 8)[0]
    network = stack.member(0)
    before = network(raw).tolist()
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.add_(1.0)
    assert network(raw).tolist() == before


def test_initial_weights_depend_on_the_members_seed_alone():
    """Seed 5 gives the same weights as the second of three members and alone, and other weights than seed 6."""
    together = Stack((8, 4, 3), seeds=[9, 5, 6], normalise=IDENTITY)
    alone = Stack((8, 4, 3), seeds=[5], normalise=IDENTITY)
    for wide, single in zip(together.weights, alone.weights, strict=True):
        assert torch.equal(wide[1], single[0])
        assert not torch.equal(wide[1], wide[2])


def test_initial_weights_have_the_variance_of_he_et_al():
    """Deviation sqrt(2 / fan_in), biases 0."""
    stack = Stack((200, 300, 100), seeds=[0], normalise=IDENTITY)
    for weight, fan_in in zip(stack.weights, (200, 300), strict=True):
        assert weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.02)
    assert all(not bias.any() for bias in stack.biases)


def test_making_a_stack_leaves_the_global_generator_alone():
    """Nothing depends on who drew random numbers before."""
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    Stack((8, 4, 3), seeds=[0], normalise=IDENTITY)
    assert torch.equal(torch.rand(3), expected)


def hidden_units(dropout: float) -> Stack:
    """A stack whose logits are its 400 hidden units, each of which is 1 without dropout."""
    stack = Stack((1, 400, 400), seeds=[0, 1], normalise=IDENTITY, dropout=dropout)
    with torch.no_grad():
        stack.weights[0].fill_(1.0)
        stack.weights[1].copy_(torch.eye(400).expand(2, -1, -1))
    return stack


def test_dropout_happens_only_where_generators_are_given():
    """There is no training mode to forget."""
    stack = hidden_units(0.3)
    assert stack.train()(torch.ones(2, 5, 1)).eq(1.0).all()
    assert stack.eval()(torch.ones(2, 5, 1), generators(0, 1)).eq(0.0).any()


def test_dropout_keeps_the_mean():
    """A hidden unit is 0, or 1 / keep times itself, and its mean stays; 0.7 is kept as 179 of 256."""
    answers = hidden_units(0.3)(torch.ones(2, 100, 1), generators(0, 1))
    kept = answers[answers > 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 256 / 179))
    for member in answers:  # 40,000 draws: a deviation of the mean of 0.0033
        assert member.mean().item() == pytest.approx(1.0, abs=0.015)


def test_dropout_never_touches_the_logits():
    """Only hidden layers are dropped: a network without any has none."""
    stack = Stack((8, 3), seeds=[0], normalise=IDENTITY, dropout=0.9)
    raw = inputs(1, 50, 8)
    assert torch.equal(stack(raw, generators(0)), stack(raw))


def test_members_draw_dropout_from_their_own_generators():
    """The second member's mask is the same where it is trained alone."""
    stack = hidden_units(0.5)
    both = stack(torch.ones(2, 5, 1), generators(0, 7))
    first_too = stack(torch.ones(2, 5, 1), generators(1, 7))
    assert torch.equal(both[1], first_too[1])
    assert not torch.equal(both[0], first_too[0])


def test_images_go_from_their_range_to_0_and_1():
    """Whatever the training images hold, the range of the format counts."""
    normalise = normalise_for(np.full((4, 2, 2), 7, dtype=np.uint8), ImageSpec(range=(-8.0, 8.0)))
    assert normalise(torch.tensor([-8.0, 0.0, 8.0])).tolist() == [0.0, 0.5, 1.0]


def test_features_get_mean_0_and_deviation_1():
    """Feature by feature, over the training inputs."""
    features = np.random.default_rng(0).normal([100.0, -3.0, 0.0], [0.1, 50.0, 1.0], (500, 3))
    normalised = normalise_for(features, None)(torch.from_numpy(features.astype(np.float32))).numpy()
    np.testing.assert_allclose(normalised.mean(axis=0), 0.0, atol=1e-3)
    np.testing.assert_allclose(normalised.std(axis=0), 1.0, rtol=1e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("constant", [0.0, 5.0, 0.1, 1e6 + 0.1])
def test_a_constant_feature_is_centred_and_not_blown_up(constant, dtype):
    """It has no deviation to be divided by; rounding must not pass for one."""
    features = np.full((999, 1), constant, dtype=dtype)
    normalise = normalise_for(features, None)
    assert normalise(torch.from_numpy(features[:1].astype(np.float32))).abs().item() < 1e-3
    assert normalise.scale.item() == 1.0


def test_parameters_counts_what_is_trained():
    """Weights and biases, without mean and scale."""
    assert parameters(Stack((64, 16, 10), seeds=[0, 1], normalise=DIGITS)) == 2 * (65 * 16 + 17 * 10)
