"""A reproduced figure beside the paper's, and the JSON that holds all of them. It does not know experiments."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from trainer.checkpoint import write_bytes
from trainer.errors import RunError

Chosen = Literal["validation", "test"]


class Row(NamedTuple):
    """One figure: `values` are ours, one per seed; `paper` is the paper's and `goal` what we set out to reach, or None.

    `chosen_on` says on what settings and epochs were chosen; `seconds` is the time that it took, without what other
    rows had made before; `details` holds whatever else is known, as JSON.
    """

    id: str
    title: str
    metric: str
    paper: float | None
    goal: float | None
    values: list[float]
    chosen_on: Chosen
    seconds: float
    details: dict[str, Any]

    @property
    def mean(self) -> float:
        """Over seeds."""
        return statistics.fmean(self.values)


Measured = tuple[list[float], dict[str, Any]]
"""The values of a row, one per seed, and its details."""


class Figure(NamedTuple):
    """How a row comes about: what it is called, the paper's figure, ours to reach, and the experiment."""

    id: str
    title: str
    paper: float | None
    goal: float | None
    chosen_on: Chosen
    measure: Callable[[], Measured]
    metric: str = "test_errors"


class Results(NamedTuple):
    """Everything that one command has reproduced so far."""

    command: str
    hardware: str
    rows: list[Row]

    @property
    def seconds(self) -> float:
        """Of all rows."""
        return sum(row.seconds for row in self.rows)


def number(value: float | None) -> str:
    """For a cell of a table."""
    return "" if value is None else f"{value:g}"


def line(row: Row, decimals: int, *more: str) -> str:
    """A line of a table: id, title, the paper's figure, ours to reach, ours, `more` cells, and the time."""
    known = (f"`{row.id}`", row.title, number(row.paper), number(row.goal), spread(row.values, decimals))
    return f"| {' | '.join((*known, *more, f'{row.seconds:.0f} s'))} |"


def spread(values: Sequence[float], decimals: int) -> str:
    """`85.31 ± 0.12 [3]`."""
    if not values:
        return "none"
    deviation = f" ± {statistics.stdev(values):.{decimals}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{decimals}f}{deviation} [{len(values)}]"


def read_results(path: Path) -> Results | None:
    """What was made before, by whichever command and machine; None where there is no file. Raises RunError where it is
    damaged."""
    if not path.exists():
        return None
    try:
        facts = json.loads(path.read_bytes())
        return Results(facts["command"], facts["hardware"], [Row(**row) for row in facts["rows"]])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is damaged ({error}); move it away to begin anew") from error


def write_rows(path: Path, results: Results) -> None:
    """Writes all of them, whole or not at all."""
    facts = {
        "command": results.command,
        "hardware": results.hardware,
        "seconds": round(results.seconds, 1),
        "rows": [row._asdict() for row in results.rows],
    }
    write_bytes(path, json.dumps(facts, indent=1, allow_nan=False).encode() + b"\n")
