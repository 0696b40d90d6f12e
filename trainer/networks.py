"""Multilayer perceptrons, many at once. It knows layers and their initial weights, not data, losses or training.

Legend: M members, B batch, K classes, D features. A stack computes M networks of one shape at once, each with weights,
dropout and inputs of its own, so that training ten small networks costs little more than training one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from service.manifest import ImageSpec

BLOCK = 4096
"""Examples."""


class Normalise(nn.Module):
    """(raw - mean) / scale, the pre-processing inside every graph."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    def forward(self, raw: Tensor) -> Tensor:
        """Raw units [..., *shape] -> normalised, the same shape."""
        return (raw - self.mean) / self.scale


def normalise_for(train_inputs: np.ndarray, image: ImageSpec | None) -> Normalise:
    """Images go from their range to [0, 1]; features get mean 0 and deviation 1 over the training inputs [N, ...]."""
    if image is not None:
        low, high = image.range
        return Normalise(torch.tensor(low), torch.tensor(high - low))
    mean = _mean(train_inputs, np.float64(0))
    deviation = np.sqrt(_mean(train_inputs, mean, power=2)).astype(np.float32)
    scale = np.where(deviation > 0, deviation, np.float32(1))  # a constant feature stays 0
    return Normalise(torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(scale))


def _mean(inputs: np.ndarray, about: np.ndarray | np.float64, power: int = 1) -> np.ndarray:
    """The mean [...] of (inputs - about)^power over inputs [N, ...], in float64, of which only a block is in memory."""
    total = np.zeros(inputs.shape[1:])
    for start in range(0, len(inputs), BLOCK):
        block = inputs[start : start + BLOCK].astype(np.float32)  # of float64 the deviation of equals is no 0
        total += ((block - about) ** power).sum(axis=0)
    return total / len(inputs)


class Stack(nn.Module):
    """M multilayer perceptrons of one shape with ReLU, computed as batched matrix products.

    `sizes` are D, the hidden widths, K. Member m's initial weights depend on `seeds[m]` alone (He et al. 2015).
    There is no training mode to forget: dropout happens where generators are given, and nowhere else.
    """

    def __init__(self, sizes: Sequence[int], seeds: Sequence[int], normalise: Normalise, dropout: float = 0.0) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.normalise = normalise
        self.dropout = dropout
        generators = [torch.Generator().manual_seed(2 * seed) for seed in seeds]
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for fan_in, fan_out in itertools.pairwise(sizes):
            draws = [torch.randn(fan_in, fan_out, generator=generator) for generator in generators]
            self.weights.append(torch.stack(draws) * math.sqrt(2.0 / fan_in))
            self.biases.append(torch.zeros(len(seeds), 1, fan_out))

    @property
    def members(self) -> int:
        """M."""
        return len(self.weights[0])

    def learnt(self) -> list[Tensor]:
        """What training changes, each [M, ...]."""
        return list(self.parameters())

    def forward(self, raw_MB: Tensor, generators: Sequence[torch.Generator] | None = None) -> Tensor:
        """Raw inputs [M, B, ...] -> logits [M, B, K]; with dropout where each member's generator is given."""
        hidden = self.normalise(raw_MB).flatten(2)
        last = len(self.weights) - 1
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = torch.baddbmm(bias, hidden, weight)
            if index < last:
                hidden = hidden.relu()
                if generators is not None and self.dropout > 0:
                    hidden = hidden * self._dropout_mask(hidden, generators)
        return hidden

    def _dropout_mask(self, hidden_MBD: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """1 / keep where a unit stays and 0 where it is dropped; keep is rounded to a multiple of 1/256.

        One random byte decides each unit: drawing a float for each took a tenth of a training step on the CPU.
        """
        kept = min(max(round(256 * (1.0 - self.dropout)), 1), 255)
        units = hidden_MBD[0].numel()
        words = torch.empty(len(generators), -(-units // 8), dtype=torch.int64, device=hidden_MBD.device)
        for row, generator in zip(words, generators, strict=True):
            row.random_(-(2**63), None, generator=generator)  # None: all 64 bits
        bytes_MBD = words.view(torch.uint8)[:, :units].reshape(hidden_MBD.shape)
        return (bytes_MBD < kept).to(hidden_MBD.dtype).mul_(256 / kept)

    def member(self, index: int) -> nn.Sequential:
        """Member `index` as an ordinary network, raw [B, ...] -> logits [B, K], for export."""
        layers: list[nn.Module] = [self.normalise, nn.Flatten()]
        for weight, bias in zip(self.weights, self.biases, strict=True):
            linear = nn.Linear(*weight.shape[1:])
            linear.load_state_dict({"weight": weight[index].detach().T, "bias": bias[index, 0].detach()})
            layers += [linear, nn.ReLU()]
        return nn.Sequential(*layers[:-1]).to(self.weights[0].device).eval()


def parameters(network: nn.Module) -> int:
    """How many numbers were trained."""
    return sum(parameter.numel() for parameter in network.parameters())
