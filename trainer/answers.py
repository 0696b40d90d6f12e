"""What a teacher says: the soft targets of a transfer set, view by view, computed once and kept in the run's folder.

It knows teachers and views, not where teachers come from (teachers.py) nor how targets lie on disk (targets.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trainer.ensemble import Ensemble, predict
from trainer.stages import Workshop
from trainer.targets import stored_targets
from trainer.views import NumberedViews


class Teacher(NamedTuple):
    """Who answers: its SHA-256, and raw inputs [B, ...] -> log-probabilities [B, K] on the CPU."""

    sha256: str
    answer: Callable[[Tensor], Tensor]


def teacher_of(workshop: Workshop, ensemble: Ensemble) -> Teacher:
    """An ensemble that was trained here."""

    def answer(inputs: Tensor) -> Tensor:
        return predict(ensemble.to(workshop.device), inputs)

    return Teacher(_weights_sha256(ensemble), answer)


def soft_targets(workshop: Workshop, teacher: Teacher, inputs: Tensor, views: NumberedViews | None) -> list[Tensor]:
    """The teacher's log-probabilities [N, K] for inputs [N, ...], one tensor for each view of them, computed once and
    kept in the run's folder."""
    facts = {"teacher": teacher.sha256, "inputs": hashlib.sha256(inputs.cpu().numpy().data).hexdigest()}
    count = 1 if views is None else views.number
    targets = []
    with workshop.display.stage("soft targets", count) as advance:
        for number in range(count):
            targets.append(_targets_of_view(workshop, teacher, inputs, views, number, facts).to(workshop.device))
            advance(number + 1, "")
    return targets


def _targets_of_view(
    workshop: Workshop,
    teacher: Teacher,
    inputs: Tensor,
    views: NumberedViews | None,
    number: int,
    facts: dict[str, Any],
) -> Tensor:
    folder = workshop.folder / "soft-targets" / f"view-{number:04d}"
    draws = None if views is None else views.draw(number, inputs).to(inputs.device)

    def answer(rows: range) -> Tensor:
        if views is None or draws is None:
            return teacher.answer(inputs[rows.start : rows.stop])
        return teacher.answer(views.see(inputs, torch.arange(rows.start, rows.stop, device=inputs.device), draws))

    views_as_made = None if views is None else list(views[1:])  # more views do not change the first ones
    return stored_targets(folder, {**facts, "views": views_as_made, "view": number}, len(inputs), answer)


def _weights_sha256(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()
