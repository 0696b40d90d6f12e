"""Distillation with TextBrewer, of one teacher (GeneralDistiller) or several (MultiTeacherDistiller).

It is the other side of benchmarks/training.py, and knows TextBrewer's configuration. TextBrewer is no dependency of
this project: install it to have these rows,

    python -m pip install textbrewer==0.2.1.post1

Its GeneralDistiller has no cache. BasicDistiller and MultiTeacherDistiller have one of whole batches, which in later
epochs come in another order but hold the same examples; these rows are of live teachers, which shuffle as ours does.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stderr
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.textbook import HARD_WEIGHT, TEMPERATURE


class _Labelled(nn.Module):
    """A network as TextBrewer calls one: with the whole batch, labels included."""

    def __init__(self, network: nn.Module, learns: bool) -> None:
        super().__init__()
        self.network = network
        self.learns = learns

    def forward(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.network(images)
        if not self.learns:
            return {"logits": logits}
        return {"logits": logits, "losses": nn.functional.cross_entropy(logits, labels)}


def _adaptor(_batch: object, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return dict(outputs)


def installed() -> str | None:
    """TextBrewer's version, or None where it is not installed."""
    if importlib.util.find_spec("textbrewer") is None:
        return None
    return str(importlib.import_module("textbrewer").__version__)


def epoch(student: nn.Module, teachers: Sequence[nn.Module], batches: DataLoader[tuple[Tensor, ...]]) -> None:
    """One epoch; TextBrewer saves the student at its end, as our loop does."""
    brewer: Any = importlib.import_module("textbrewer")
    taught, teaching = _Labelled(student, learns=True), [_Labelled(each, learns=False) for each in teachers]
    optimiser = torch.optim.Adam(taught.parameters(), lr=1e-3)
    distilling = brewer.DistillationConfig(
        temperature=TEMPERATURE, kd_loss_weight=1.0 - HARD_WEIGHT, hard_label_weight=HARD_WEIGHT
    )
    one = len(teaching) == 1
    distiller_class = brewer.GeneralDistiller if one else brewer.MultiTeacherDistiller
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(io.StringIO()):  # its progress bars
        training = brewer.TrainingConfig(output_dir=folder, device="cpu")
        teacher = teaching[0] if one else teaching
        distiller = distiller_class(training, distilling, teacher, taught, _adaptor, _adaptor)
        with distiller:  # it gives itself no name
            distiller.train(optimiser, batches, num_epochs=1)
