"""Losses: pure functions with their mathematics.

Legend: M members, B batch, K classes. Each takes logits [M, B, K] and gives one value per member, [M]: the mean over
the batch, never over the classes, so that the balance of the terms moves neither with K nor with T.
"""

from __future__ import annotations

from torch import Tensor


def cross_entropy(logits_MBK: Tensor, labels_MB: Tensor) -> Tensor:
    """-log softmax(z)[label], the mean over the batch: [M]."""
    log_q = logits_MBK.log_softmax(dim=-1)
    return -log_q.gather(-1, labels_MB.unsqueeze(-1)).squeeze(-1).mean(dim=-1)


def soft_cross_entropy(logits_MBK: Tensor, log_teacher_MBK: Tensor, temperature: float) -> Tensor:
    """T^2 times the cross-entropy between softmax(log p / T) and softmax(z / T), the mean over the batch: [M].

    The gradient of the plain cross-entropy with respect to z_i is (q_i - p_i) / T, and q_i - p_i itself shrinks as
    1 / T: the factor T^2 is here, and nowhere else (section 2). No gradient reaches the teacher.
    """
    teacher = (log_teacher_MBK.detach() / temperature).softmax(dim=-1)
    log_q = (logits_MBK / temperature).log_softmax(dim=-1)
    return -(teacher * log_q).sum(dim=-1).mean(dim=-1) * temperature**2


def distillation(
    logits_MBK: Tensor, labels_MB: Tensor, log_teacher_MBK: Tensor, *, temperature: float, hard_weight: float
) -> Tensor:
    """(1 - w) T^2 CE(teacher at T, student at T) + w CE(labels, student at 1), w = `hard_weight`: [M]."""
    soft = soft_cross_entropy(logits_MBK, log_teacher_MBK, temperature)
    if hard_weight == 0.0:
        return soft
    return (1.0 - hard_weight) * soft + hard_weight * cross_entropy(logits_MBK, labels_MB)
