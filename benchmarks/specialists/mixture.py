"""A mixture of experts that are trained jointly, as one network. It knows its layers, not how it is trained.

After Jacobs, Jordan, Nowlan and Hinton (1991): p(class | x) = sum over experts s of g_s(x) p_s(class | x), and the loss
is -log p(label | x). Every expert answers every example, and every expert's gradient needs all the others' answers: its
share g_s p_s / p of the example. The network gives log p for its logits. They are normalised already, so that the
training loop's ordinary cross-entropy of them is that loss, and a mixture needs no loop and no loss of its own.
Legend: B batch, S experts, K classes, D features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmarks import textbook


class Mixture(nn.Module):
    """Multilayer perceptrons of `sizes` (D, the hidden widths, K), and a gate of one layer, the cheapest there is."""

    def __init__(self, sizes: Sequence[int], experts: int) -> None:
        super().__init__()
        self.experts = nn.ModuleList(textbook.network(sizes) for _ in range(experts))
        self.gate = textbook.network([sizes[0], experts])

    def forward(self, input_BD: Tensor) -> Tensor:
        """Inputs [B, D] -> log p [B, K]."""
        log_p_BSK = torch.stack([expert(input_BD) for expert in self.experts], dim=1).log_softmax(dim=-1)
        log_gate_BS = self.gate(input_BD).log_softmax(dim=-1)
        return (log_gate_BS.unsqueeze(-1) + log_p_BSK).logsumexp(dim=1)
