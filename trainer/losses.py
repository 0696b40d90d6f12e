"""Losses: pure functions with their mathematics.

Legend: M members, B batch, K classes. Each takes logits [M, B, K] and gives one value per member, [M]: the mean over
the batch, never over the classes, so that the balance of the terms moves neither with K nor with T. z are the student's
logits, log p the teacher's log-probabilities at temperature 1, q and p their softmaxes at T. No gradient reaches a
teacher.
"""

from __future__ import annotations

import torch
from torch import Tensor

UNLABELLED = -1
"""The label of an example of which only the teacher has something to say."""


def cross_entropy(logits_MBK: Tensor, labels_MB: Tensor, weights_MB: Tensor | None = None) -> Tensor:
    """-log softmax(z)[label], weighted where weights are given, the mean over the batch: [M].

    UNLABELLED examples add 0, and the mean is still over the whole batch.
    """
    log_q = logits_MBK.log_softmax(dim=-1)
    chosen = -log_q.gather(-1, labels_MB.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    chosen = torch.where(labels_MB == UNLABELLED, 0.0, chosen)
    return (chosen if weights_MB is None else weights_MB * chosen).mean(dim=-1)


def soft_cross_entropy(logits_MBK: Tensor, log_teacher_MBK: Tensor, temperature: float) -> Tensor:
    """T^2 times the cross-entropy between softmax(log p / T) and softmax(z / T), the mean over the batch: [M].

    The gradient of the plain cross-entropy with respect to z_i is (q_i - p_i) / T, and q_i - p_i itself shrinks as
    1 / T: the factor T^2 is here, and nowhere else (section 2).
    """
    teacher = (log_teacher_MBK.detach() / temperature).softmax(dim=-1)
    log_q = (logits_MBK / temperature).log_softmax(dim=-1)
    return -(teacher * log_q).sum(dim=-1).mean(dim=-1) * temperature**2


def logit_matching(logits_MBK: Tensor, log_teacher_MBK: Tensor) -> Tensor:
    """1/(2K) times the squared distance of the zero-meaned logits, the mean over the batch: [M].

    Its gradient, (z_i - v_i) / K with zero-meaned z and v, is what T^2 times the soft term's tends to for T -> infinity
    (section 2.1; Bucila, Caruana and Niculescu-Mizil 2006). log p stands for the teacher's logits: they differ by a
    constant, which the zero mean removes.
    """
    student = logits_MBK - logits_MBK.mean(dim=-1, keepdim=True)
    teacher = log_teacher_MBK.detach()
    teacher = teacher - teacher.mean(dim=-1, keepdim=True)
    return (student - teacher).square().sum(dim=-1).mean(dim=-1) / (2 * logits_MBK.shape[-1])


def decoupled(
    logits_MBK: Tensor,
    labels_MB: Tensor,
    log_teacher_MBK: Tensor,
    *,
    temperature: float,
    target_weight: float,
    other_weight: float,
) -> Tensor:
    """T^2 (`target_weight` KL(target) + `other_weight` KL(other)), the mean over the batch: [M].

    Decoupled knowledge distillation (Zhao et al. 2022). KL(target) is between the two-way distributions (label, every
    other class); KL(other) between the distributions over the other classes alone. With weights 1 and 1 - p[label] it
    is the Kullback-Leibler divergence from p to q. The target of an UNLABELLED example is the teacher's own answer.
    """
    teacher = log_teacher_MBK.detach()
    target_MB = torch.where(labels_MB == UNLABELLED, teacher.argmax(dim=-1), labels_MB)
    log_p, log_q = ((logits / temperature).log_softmax(dim=-1) for logits in (teacher, logits_MBK))
    is_target = torch.zeros_like(log_q, dtype=torch.bool).scatter_(-1, target_MB.unsqueeze(-1), True)
    two_way, others = zip(*(_decouple(log, is_target) for log in (log_p, log_q)), strict=True)
    loss = target_weight * _divergence(*two_way) + other_weight * _divergence(*others)
    return loss.mean(dim=-1) * temperature**2


def _decouple(log_p: Tensor, is_target: Tensor) -> tuple[Tensor, Tensor]:
    """log of (p[target], 1 - p[target]) [M, B, 2], and log of p over the other classes alone [M, B, K]."""
    kept = torch.where(is_target, -torch.inf, log_p)
    rest = kept.logsumexp(dim=-1, keepdim=True)
    target = torch.where(is_target, log_p, 0.0).sum(dim=-1, keepdim=True)
    return torch.cat([target, rest], dim=-1), torch.where(is_target, 0.0, log_p - rest)


def _divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """sum p (log p - log q) over the last axis; a class with log p = log q = 0 on both sides adds nothing."""
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)


def standardise(logits_MBK: Tensor) -> Tensor:
    """Each row less its mean, over its standard deviation (Sun et al. 2024): only the shape of the logits is matched.

    The deviation has the floor 1e-7, so that a row of equal logits stays 0.
    """
    centred = logits_MBK - logits_MBK.mean(dim=-1, keepdim=True)
    return centred / centred.square().mean(dim=-1, keepdim=True).clamp(min=1e-14).sqrt()
