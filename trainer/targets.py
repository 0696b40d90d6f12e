"""Soft targets on disk: the teacher's log-probabilities over the transfer set, with whose they are and over what.

They are at temperature 1: every temperature is softmax(log p / T). It knows files and arrays, not teachers.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from trainer.checkpoint import load_tensors, save_tensors
from trainer.errors import RunError


def write_targets(path: Path, log_p_NK: Tensor, *, teacher_sha256: str, data_sha256: str) -> None:
    """Writes float32 [N, K]."""
    facts = {"teacher": teacher_sha256, "data": data_sha256}
    save_tensors(path, {"log_probabilities": log_p_NK.to(torch.float32)}, facts)


def read_targets(path: Path, *, teacher_sha256: str, data_sha256: str) -> Tensor:
    """Reads float32 [N, K]. Raises RunError where they were made by another teacher or over other data."""
    tensors, facts = load_tensors(path)
    for what, expected in (("teacher", teacher_sha256), ("data", data_sha256)):
        if facts.get(what) != expected:
            found = str(facts.get(what))[:12]
            raise RunError(f"{path}: the soft targets are of {what} {found}…, expected {expected[:12]}…")
    return tensors["log_probabilities"]
