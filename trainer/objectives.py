"""The loss that a recipe asks for, as the training loop takes it. The mathematics is in losses.py.

Legend: M members, B batch, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from trainer import losses
from trainer.fit import Batch
from trainer.recipe import StudentTable


def hard(logits_MBK: Tensor, batch: Batch) -> Tensor:
    """The loss of members and baselines, [M]."""
    return _on_labels(logits_MBK, batch)


@dataclass(frozen=True)
class Distilling:
    """The loss of students: a soft term and the labels, weighted."""

    settings: StudentTable

    def __call__(self, logits_MBK: Tensor, batch: Batch) -> Tensor:
        """[M], as the training loop wants it."""
        soft_weight, hard_weight = self.settings.weights
        if batch.log_teacher is None:
            raise TypeError("a student learns from soft targets; these examples have none")
        soft_M = _soft(self.settings, logits_MBK, batch.labels, batch.log_teacher)
        if hard_weight == 0.0:
            return soft_weight * soft_M
        return soft_weight * soft_M + hard_weight * _on_labels(logits_MBK, batch)


def _on_labels(logits_MBK: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy with the labels; a mixture of two examples pays for both labels by their shares."""
    if batch.mixture is None:
        return losses.cross_entropy(logits_MBK, batch.labels)
    return losses.cross_entropy(logits_MBK, batch.labels, batch.mixture.share) + losses.cross_entropy(
        logits_MBK, batch.mixture.labels, 1.0 - batch.mixture.share
    )


def _soft(settings: StudentTable, logits_MBK: Tensor, labels_MB: Tensor, log_teacher_MBK: Tensor) -> Tensor:
    if settings.standardise:
        logits_MBK, log_teacher_MBK = losses.standardise(logits_MBK), losses.standardise(log_teacher_MBK)
    if settings.loss == "logits":
        return losses.logit_matching(logits_MBK, log_teacher_MBK)
    if settings.loss == "decoupled":
        return losses.decoupled(
            logits_MBK,
            labels_MB,
            log_teacher_MBK,
            temperature=settings.temperature,
            target_weight=settings.target_weight,
            other_weight=settings.other_weight,
        )
    return losses.soft_cross_entropy(logits_MBK, log_teacher_MBK, settings.temperature)
