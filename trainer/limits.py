"""What a training may use of a machine: CPU threads, and memory until there is no more. It does not know training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from trainer.errors import RunError


@contextmanager
def enough_memory(what: str) -> Iterator[None]:
    """Turns what PyTorch raises where memory is short into a RunError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "alloc" in str(error):
            raise RunError(f"not enough memory for {what}; choose smaller ones in the recipe") from error
        raise


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """PyTorch's CPU threads, within."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
