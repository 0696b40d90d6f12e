"""How the paper's acoustic model is reproduced: corpus, networks, temperatures, seeds; in full, and tiny for the tests.

Everything in here was chosen on validation.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from trainer.recipe import EnsembleTable, StudentTable, Training
from trainer.speech.corpus import ARABIC, FSDD


class Plan(NamedTuple):
    """The corpus, of which at most `each` training recordings of a word by a speaker; the ten networks; the student, by
    which T is chosen; and networks of a share of the training recordings, with hard labels or with soft ones.

    Strings have `length` words, at most so many of them per part are heard, and a word costs one of the `penalties`.
    """

    corpus: str
    each: int
    seeds: int
    members: EnsembleTable
    student: StudentTable
    temperatures: tuple[float, ...]
    of_few: dict[float, tuple[Training, StudentTable]]
    length: int
    strings: int
    penalties: tuple[float, ...]


PENALTIES = (0.0, 20.0, 40.0, 80.0, 120.0, 160.0, 240.0)
DEEP: dict[str, Any] = {"hidden": (384,) * 4, "batch_size": 512, "precision": "bfloat16"}
"""The paper's network has eight layers of 2,560."""
DROPPING: dict[str, Any] = {**DEEP, "dropout": 0.2}
"""Whatever learns labels alone. Soft targets are a regulariser by themselves: with dropout, networks of 30 % of the
recordings had 9,039 errors on validation, without it 8,118."""
SOFT: dict[str, Any] = {"weighting": "relative", "hard_weight": 0.5}
"""Section 4's weights."""


def _of_few(
    labels: dict[str, Any], targets: dict[str, Any], epochs: dict[float, tuple[int, int]], temperature: float
) -> dict[float, tuple[Training, StudentTable]]:
    """Hard labels stop early, by validation; soft targets go on to the end."""
    return {
        share: (
            Training(epochs=hard, **labels),
            StudentTable(epochs=soft, temperature=temperature, keep="last", hard_weight=0.0, **targets),
        )
        for share, (hard, soft) in epochs.items()
    }


FULL = Plan(
    corpus=ARABIC,
    each=1_000,
    seeds=3,
    members=EnsembleTable(members=10, epochs=6, **DROPPING),
    student=StudentTable(epochs=10, **DEEP, **SOFT),
    temperatures=(1.0, 2.0, 5.0, 10.0),
    of_few=_of_few(DROPPING, DEEP, {0.03: (20, 120), 0.1: (12, 50), 0.3: (10, 25)}, temperature=2.0),
    length=5,
    strings=240,
    penalties=PENALTIES,
)

TINY: dict[str, Any] = {"hidden": (64,), "batch_size": 128}

QUICK = Plan(
    corpus=FSDD,
    each=4,
    seeds=2,
    members=EnsembleTable(members=3, epochs=6, **TINY),
    student=StudentTable(epochs=6, **TINY, **SOFT),
    temperatures=(1.0, 2.0),
    of_few=_of_few(TINY, TINY, {0.03: (2, 4), 0.1: (2, 3), 0.3: (2, 2)}, temperature=2.0),
    length=3,
    strings=10,
    penalties=PENALTIES[1:3],
)
