"""How the paper's section on specialists is reproduced: networks, groups, seeds; in full, and tiny for the tests.

Everything in here was chosen on validation.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from trainer.recipe import SpecialistsTable, StudentTable, Training


class Plan(NamedTuple):
    """Settings of the generalist, of its specialists, and of the students that either teaches."""

    seeds: int
    generalist: Training
    specialists: SpecialistsTable
    student: StudentTable


NETWORK: dict[str, Any] = {"hidden": (512, 512), "batch_size": 256}

FULL = Plan(
    seeds=3,
    generalist=Training(epochs=30, **NETWORK),
    specialists=SpecialistsTable(number=8, size=12, overlap=True, epochs=10, batch_size=256),
    student=StudentTable(epochs=30, temperature=2.0, hard_weight=0.0, distort=True, numbered_views=8, **NETWORK),
)

TINY: dict[str, Any] = {"hidden": (32,), "batch_size": 32}

QUICK = Plan(
    seeds=2,
    generalist=Training(epochs=4, **TINY),
    specialists=SpecialistsTable(number=3, size=24, overlap=True, epochs=2, batch_size=32),
    student=StudentTable(epochs=2, temperature=2.0, hard_weight=0.0, distort=True, numbered_views=2, **TINY),
)
