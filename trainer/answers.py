"""What a teacher says: the soft targets of a transfer set, view by view, computed once and kept in the run's folder.

It knows teachers and views, not where teachers come from (teachers.py) nor how targets lie on disk (targets.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trainer.cluster import Here
from trainer.ensemble import predict
from trainer.stages import Workshop
from trainer.targets import shard_path, shards_of, stored_shard, stored_targets
from trainer.views import NumberedViews


class Teacher(NamedTuple):
    """Who answers: its SHA-256, and raw inputs [B, ...] -> log-probabilities [B, K] on the CPU."""

    sha256: str
    answer: Callable[[Tensor], Tensor]


def teacher_of(workshop: Workshop, module: nn.Module, how: str = "") -> Teacher:
    """A served module that was trained here; `how` is what its answers depend on beside its weights and the recipe."""
    return Teacher(_sha256(module, how), ModuleAnswers(module, workshop.device))


@dataclass(frozen=True)
class ModuleAnswers:
    """How a served module answers on a device."""

    module: nn.Module
    device: torch.device

    def __call__(self, inputs: Tensor) -> Tensor:
        """Raw inputs [B, ...] -> log-probabilities [B, K] on the CPU."""
        return predict(self.module.to(self.device), inputs)


@dataclass(frozen=True)
class View:
    """One view of the transfer set, or None for the inputs as they are, and where the answers to it are kept."""

    number: int
    views: NumberedViews | None
    folder: Path
    facts: dict[str, Any]


def soft_targets(workshop: Workshop, teacher: Teacher, inputs: Tensor, views: NumberedViews | None) -> list[Tensor]:
    """The teacher's log-probabilities [N, K] for inputs [N, ...], one tensor for each view of them, computed once and
    kept in the run's folder."""
    views_as_made = None if views is None else list(views[1:])  # more views do not change the first ones
    sha256 = hashlib.sha256(inputs.cpu().numpy().data).hexdigest()
    facts = {"teacher": teacher.sha256, "inputs": sha256, "views": views_as_made}
    folder = workshop.folder / "soft-targets"
    asked = [
        View(number, views, folder / f"view-{number:04d}", {**facts, "view": number})
        for number in range(1 if views is None else views.number)
    ]
    shared = (teacher.answer, inputs)
    with workshop.display.stage("soft targets", len(asked)) as advance:
        if not isinstance(workshop.cluster, Here):
            shards = [(view, rows) for view in asked for rows in shards_of(len(inputs))]
            missing = [(view, rows) for view, rows in shards if not shard_path(view.folder, rows).exists()]
            workshop.cluster.run(
                answer_shard, shared, missing, lambda done: advance(done * len(asked) // len(shards), "")
            )
        targets = []
        for view in asked:
            answers = partial(_answer, shared, view)
            targets.append(stored_targets(view.folder, view.facts, len(inputs), answers).to(workshop.device))
            advance(view.number + 1, "")
    return targets


Shared = tuple[Callable[[Tensor], Tensor], Tensor]
"""How the teacher answers, and the inputs."""


def answer_shard(shared: Shared, item: tuple[View, range]) -> None:
    """In whatever process: has one shard answered and leaves it on disk."""
    view, rows = item
    stored_shard(view.folder, view.facts, rows, partial(_answer, shared, view))


def _answer(shared: Shared, view: View, rows: range) -> Tensor:
    answer, inputs = shared
    if view.views is None:
        return answer(inputs[rows.start : rows.stop])
    draws = view.views.draw(view.number, inputs).to(inputs.device)
    return answer(view.views.see(inputs, torch.arange(rows.start, rows.stop, device=inputs.device), draws))


def _sha256(module: nn.Module, how: str) -> str:
    digest = hashlib.sha256(how.encode())
    for name, tensor in module.state_dict().items():
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()
