"""Networks that are ordinary PyTorch modules: the one that ships, `cnn`, and the user's own, `module:factory`.

It knows how such a module is made and how the training loop sees it, not data, losses or training.
Legend: B batch, K classes.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from trainer.errors import RecipeError
from trainer.networks import Normalise


def cnn(shape: Sequence[int], classes: int, hidden: Sequence[int]) -> nn.Module:
    """A small convolutional network for images [B, H, W] in [0, 1] -> logits [B, K]. Raises RecipeError for others.

    Each width is a 3x3 convolution with batch normalisation and ReLU; behind every second one the image is halved;
    the mean over what is left of it is classified.
    """
    if len(shape) != 2 or not hidden:
        raise RecipeError(
            f"network 'cnn' takes images [H, W] and one width or more, got {list(shape)} and {list(hidden)}"
        )
    layers: list[nn.Module] = [nn.Unflatten(1, (1, shape[0]))]
    for index, (before, after) in enumerate(itertools.pairwise((1, *hidden))):
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        if index % 2:
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(hidden[-1], classes))
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a step takes 0.7 of the time


class Module(nn.Module):
    """One ordinary module as the training loop sees it: a stack of one member.

    `network` takes normalised inputs [B, *shape] and gives logits [B, K]. Its dropout and batch normalisation are in
    training mode where a generator is given, and in evaluation mode everywhere else.
    """

    members = 1

    def __init__(self, network: nn.Module, normalise: Normalise) -> None:
        super().__init__()
        self.normalise = normalise
        self.network = network

    def learnt(self) -> list[Tensor]:
        """What training changes: parameters, and the statistics of batch normalisation."""
        return [*self.network.parameters(), *self.network.buffers()]

    def forward(self, raw_MB: Tensor, generators: Sequence[torch.Generator] | None = None) -> Tensor:
        """Raw inputs [1, B, ...] -> logits [1, B, K]. What the module draws comes from the member's generator."""
        inputs = self.normalise(raw_MB[0])
        if generators is None:
            return self.network.eval()(inputs).unsqueeze(0)
        (generator,) = generators
        seed = torch.randint(2**62, (1,), generator=generator, device=generator.device).item()
        with torch.random.fork_rng(devices=[inputs.device] if inputs.is_cuda else []):
            torch.manual_seed(int(seed))
            return self.network.train()(inputs).unsqueeze(0)

    def member(self, _index: int) -> nn.Sequential:
        """The ordinary network, raw [B, ...] -> logits [B, K], for export."""
        return nn.Sequential(self.normalise, self.network).eval()


def make_module(
    name: str, shape: Sequence[int], classes: int, hidden: Sequence[int], seed: int, normalise: Normalise
) -> Module:
    """`cnn`, or what `module:factory` makes of (shape, classes); its initial weights depend on the seed alone.

    Raises RecipeError: no such module or factory, or what it makes is no network from `shape` to K logits.
    """
    return Module(_network(name, shape, classes, hidden, seed), normalise)


def check_network(name: str, shape: Sequence[int], classes: int, hidden: Sequence[int]) -> None:
    """Raises RecipeError as `make_module` would: to be told before an ensemble is trained, not after. An mlp fits any
    shape."""
    if name != "mlp":
        _network(name, shape, classes, hidden, seed=0)


def _network(name: str, shape: Sequence[int], classes: int, hidden: Sequence[int], seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(2 * seed)  # the streams of initial weights are the even ones, as in networks.py
        network = cnn(shape, classes, hidden) if name == "cnn" else _factory(name)(tuple(shape), classes)
    _check(name, network, shape, classes)
    return network


def _factory(name: str) -> Callable[[tuple[int, ...], int], nn.Module]:
    module, _, attribute = name.partition(":")
    try:
        factory = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise RecipeError(
            f"network {name!r}: cannot import {module}: {error}; expected mlp, cnn, or module:factory with the module "
            "beside the recipe or installed"
        ) from error
    except AttributeError as error:
        raise RecipeError(f"network {name!r}: {module} has no {attribute!r}") from error
    if not callable(factory):
        raise RecipeError(f"network {name!r}: it is {type(factory).__name__}, expected a function of (shape, classes)")
    return factory


def source_sha256(name: str) -> str:
    """SHA-256 of the file of a `module:factory`, so that a run made with other code is not gone on with; of a shipped
    network that of nothing."""
    found = importlib.util.find_spec(name.partition(":")[0]) if ":" in name else None
    source = Path(found.origin).read_bytes() if found and found.origin and Path(found.origin).is_file() else b""
    return hashlib.sha256(source).hexdigest()


def _check(name: str, network: object, shape: Sequence[int], classes: int) -> None:
    """Two examples of zeros go through it."""
    if not isinstance(network, nn.Module):
        raise RecipeError(f"network {name!r}: it made {type(network).__name__}, expected a torch.nn.Module")
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise RecipeError(f"network {name!r}: it has no parameters to train")
    try:
        with torch.no_grad():
            found = network.eval()(torch.zeros(2, *shape))
    except Exception as error:  # a stranger's code may raise anything
        raise RecipeError(f"network {name!r} fails on inputs {[2, *shape]}: {error}") from error
    if not isinstance(found, Tensor) or found.shape != (2, classes):
        given = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise RecipeError(f"network {name!r} gives {given} for inputs {[2, *shape]}, expected logits {[2, classes]}")
