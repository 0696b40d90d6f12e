"""How the paper's MNIST section is reproduced: networks, epochs, seeds; in full, and tiny for the tests.

Everything in here was chosen on validation. `members` are shared by the rows that need a teacher.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from trainer.recipe import EnsembleTable, StudentTable


class Plan(NamedTuple):
    """Settings of every kind of network, and how many seeds a row has.

    `views` are the numbered views of which the students with jitter, and their controls, see one an epoch in turn.
    """

    seeds: int
    members: EnsembleTable
    plain: StudentTable
    distilled: StudentTable
    matched: StudentTable
    convolutional: StudentTable
    small: StudentTable
    widths: tuple[int, ...]
    temperatures: tuple[float, ...]


WIDE: dict[str, Any] = {"batch_size": 256, "precision": "bfloat16"}
CONVOLUTIONS = (16, 16, 32, 32, 64, 64)  # 72,666 parameters

FULL = Plan(
    seeds=3,
    members=EnsembleTable(members=10, hidden=(1200, 1200), dropout=0.2, distort=True, epochs=60, **WIDE),
    plain=StudentTable(hidden=(800, 800), epochs=30, **WIDE),
    distilled=StudentTable(hidden=(800, 800), epochs=100, temperature=20.0, hard_weight=0.0, **WIDE),
    matched=StudentTable(
        hidden=(800, 800), epochs=200, temperature=4.0, hard_weight=0.0, distort=True, numbered_views=40, **WIDE
    ),
    convolutional=StudentTable(
        network="cnn",
        hidden=CONVOLUTIONS,
        epochs=40,
        learning_rate=3e-3,
        temperature=4.0,
        hard_weight=0.0,
        distort=True,
        numbered_views=40,
        **WIDE,
    ),
    small=StudentTable(epochs=40, hard_weight=0.0, **WIDE),
    widths=(30, 100, 300, 800),
    temperatures=(1.0, 2.0, 2.5, 4.0, 8.0, 20.0, 50.0),
)

QUICK = Plan(
    seeds=2,
    members=EnsembleTable(members=3, hidden=(32,), distort=True, epochs=3),
    plain=StudentTable(hidden=(24,), epochs=3),
    distilled=StudentTable(hidden=(24,), epochs=3, temperature=20.0, hard_weight=0.0),
    matched=StudentTable(hidden=(24,), epochs=3, temperature=4.0, hard_weight=0.0, distort=True, numbered_views=2),
    convolutional=StudentTable(
        network="cnn", hidden=(4, 8), epochs=2, temperature=4.0, hard_weight=0.0, distort=True, numbered_views=2
    ),
    small=StudentTable(epochs=2, hard_weight=0.0),
    widths=(8, 16),
    temperatures=(1.0, 20.0),
)
