"""Distillation as PyTorch's tutorial writes it: a DataLoader, a teacher that answers anew for every batch, KL and CE.

It is the other side of benchmarks/training.py, and knows nothing of this project. What it leaves out, it leaves out in
its own favour: no transforms of single images, no worker processes that would take the threads of the products.
https://docs.pytorch.org/tutorials/beginner/knowledge_distillation_tutorial.html
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

TEMPERATURE = 4.0
HARD_WEIGHT = 0.1


def network(sizes: Sequence[int]) -> nn.Sequential:
    """A multilayer perceptron with ReLU, images [B, 1, 28, 28] or rows [B, D] -> logits [B, K]."""
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in itertools.pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def loader(images: Tensor, labels: Tensor, batch_size: int) -> DataLoader[tuple[Tensor, ...]]:
    """Shuffled batches of images [N, ...] and labels [N], put together example by example."""
    return DataLoader(TensorDataset(images, labels), batch_size=batch_size, shuffle=True)


def soft_targets(teachers: Sequence[nn.Module], images: Tensor) -> Tensor:
    """The mean of the teachers' distributions at TEMPERATURE, [B, K]."""
    with torch.no_grad():
        return torch.stack([nn.functional.softmax(each(images) / TEMPERATURE, dim=-1) for each in teachers]).mean(dim=0)


def epoch(student: nn.Module, teachers: Sequence[nn.Module], batches: DataLoader[tuple[Tensor, ...]]) -> float:
    """One epoch; the sum of its losses."""
    optimiser = torch.optim.Adam(student.parameters(), lr=1e-3)
    hard = nn.CrossEntropyLoss()
    for teacher in teachers:
        teacher.eval()
    student.train()
    total = 0.0
    for images, labels in batches:
        optimiser.zero_grad()
        targets = soft_targets(teachers, images)
        logits = student(images)
        log_q = nn.functional.log_softmax(logits / TEMPERATURE, dim=-1)
        soft = torch.sum(targets * (targets.log() - log_q)) / len(images) * TEMPERATURE**2
        loss = (1.0 - HARD_WEIGHT) * soft + HARD_WEIGHT * hard(logits, labels)
        loss.backward()
        optimiser.step()
        total += loss.item()
    return total
