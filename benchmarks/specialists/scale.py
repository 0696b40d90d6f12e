"""How large the benchmark of specialists is, in full and to see only that it runs."""

from __future__ import annotations

from typing import NamedTuple


class Scale(NamedTuple):
    """Of the data, the networks, the groups, the epochs that are timed, and the answers that are combined."""

    rows: int = 24_800
    classes: int = 62
    hidden: tuple[int, ...] = (512, 512)
    batch_size: int = 128
    specialists: int = 8
    size: int = 12
    top: int = 1
    repetitions: int = 3
    images: int = 256
    bound: int = 5_000
    apart: tuple[float, ...] = (1.0, 10.0)
    """Of drawn logits: specialists that mostly agree with the generalist, and such as contradict it."""
    unrolled: int = 10
    blocks: int = 8


QUICK = Scale(248, 62, (8,), 64, 3, 12, 1, 1, 16, 50, (), 2, 2)
