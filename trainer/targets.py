"""Soft targets on disk: the teacher's log-probabilities over the transfer set, with whose they are and over what.

They are at temperature 1: every temperature is softmax(log p / T). They lie in shards of consecutive examples, each
whole or not there, so that an interrupted teacher goes on where it was; a shard says which teacher, inputs, view and
rows it holds. It knows files and arrays, not teachers.
Legend: N examples, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.checkpoint import load_tensors, save_tensors
from trainer.errors import RunError

SHARD = 8192
"""Examples in a shard."""

NAME = "log_probabilities"


def shards_of(total: int, shard: int = SHARD) -> list[range]:
    """The rows of each shard of so many examples."""
    return [range(start, min(start + shard, total)) for start in range(0, total, shard)]


def shard_path(folder: Path, rows: range) -> Path:
    """The file of a shard."""
    return folder / f"{rows.start:010d}.safetensors"


def stored_targets(
    folder: Path, facts: dict[str, Any], total: int, answer: Callable[[range], Tensor], *, shard: int = SHARD
) -> Tensor:
    """The targets float32 [N, K], in the order of the examples: read where they are stored, answered where not.

    `facts` says whose they are and over what; `answer` gives the teacher's log-probabilities for a range of examples.
    Raises RunError where a shard was made with other facts, or holds other rows.
    """
    return torch.cat([stored_shard(folder, facts, rows, answer) for rows in shards_of(total, shard)])


def stored_shard(folder: Path, facts: dict[str, Any], rows: range, answer: Callable[[range], Tensor]) -> Tensor:
    """One shard of them. Raises RunError as `stored_targets` does."""
    path = shard_path(folder, rows)
    expected = {**facts, "first": rows.start, "rows": len(rows)}
    if not path.exists():
        save_tensors(path, {NAME: answer(rows).to(torch.float32)}, expected)
    tensors, found = load_tensors(path)
    for what, value in expected.items():
        if found.get(what) != value:
            raise RunError(
                f"{path}: the soft targets were made with {what} {_short(found.get(what))}, expected {_short(value)}; "
                "run again without --resume"
            )
    if len(tensors[NAME]) != len(rows):
        raise RunError(f"{path}: {len(tensors[NAME])} soft targets for {len(rows)} examples")
    return tensors[NAME]


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 else text  # a SHA-256
