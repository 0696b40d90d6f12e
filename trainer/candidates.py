"""Students of several sizes and forms side by side: table, JSON and frontier. It does not know how one is chosen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.filesize import decimal
from rich.table import Table

from trainer.checkpoint import write_bytes
from trainer.plots import save_figure


class Candidate(NamedTuple):
    """A student in one of its forms; accuracy (of 1) is on validation, p99 of one row on one CPU thread."""

    hidden: tuple[int, ...]
    form: str
    accuracy: float
    parameters: int
    bytes: int
    p99_ms: float

    @property
    def title(self) -> str:
        """`16-16 int8`."""
        return f"{'-'.join(map(str, self.hidden)) or 'no hidden layer'} {self.form}"


COLUMNS = ("student", "form", "accuracy", "below", "parameters", "size", "p99 ms")


def cells(candidate: Candidate, teacher: float) -> tuple[str, ...]:
    """A line of the table, in the order of COLUMNS."""
    return (
        "-".join(map(str, candidate.hidden)) or "none",
        candidate.form,
        f"{candidate.accuracy:.2%}",
        f"{100 * (teacher - candidate.accuracy):.2f}",
        f"{candidate.parameters:,}",
        decimal(candidate.bytes),
        f"{candidate.p99_ms:.4f}",
    )


def table(candidates: Sequence[Candidate], teacher: float) -> Table:
    """All of them on the terminal, by their size."""
    shown = Table(*COLUMNS, box=SIMPLE_HEAD, padding=0, show_edge=False)
    for column in shown.columns:
        column.justify, column.no_wrap = "right", True
    for candidate in sorted(candidates, key=lambda candidate: candidate.bytes):
        shown.add_row(*cells(candidate, teacher))
    return shown


def write_candidates(folder: Path, candidates: Sequence[Candidate], teacher: float, where: str) -> None:
    """`smallest.json`, `.md` and `.png`."""
    facts = {"hardware": where, "teacher": teacher, "candidates": [c._asdict() for c in candidates]}
    lines = [COLUMNS, ("---:",) * len(COLUMNS), *(cells(candidate, teacher) for candidate in candidates)]
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    note = f"Accuracy on validation; below: points below the teacher, {teacher:.2%}; p99: a row, one thread; {where}."
    write_bytes(folder / "smallest.md", f"{rows}\n\n{note}\n".encode())
    write_bytes(folder / "smallest.json", json.dumps(facts, indent=1).encode())
    _draw(folder / "smallest.png", candidates, teacher)


def _draw(path: Path, candidates: Sequence[Candidate], teacher: float) -> None:
    """Accuracy against bytes and against latency, with the frontier: those that no other one beats in both."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    panels: np.ndarray = figure.subplots(1, 2, sharey=True)
    for axes, key, label in zip(panels, ("bytes", "p99_ms"), ("bytes", "p99 of one row, ms"), strict=True):
        for form, colour in (("float32", "#c8553d"), ("int8", "#3b5b92")):
            of_form = [c for c in candidates if c.form == form]
            sizes, accuracies = [getattr(c, key) for c in of_form], [100 * c.accuracy for c in of_form]
            axes.scatter(sizes, accuracies, color=colour, label=form)
        line = frontier([(getattr(c, key), c.accuracy) for c in candidates])
        axes.step([x for x, _ in line], [100 * y for _, y in line], where="post", color="#999999", label="frontier")
        axes.axhline(100 * teacher, color="#999999", linestyle=":", label="teacher")
        axes.set(xscale="log", xlabel=label)
    panels[0].set_ylabel("validation accuracy, %")
    panels[0].legend()
    save_figure(figure, path)


def frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (cost, accuracy) those that are more accurate than every cheaper one, by cost."""
    best, kept = -1.0, []
    for cost, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if accuracy > best:
            kept.append((cost, accuracy))
            best = accuracy
    return kept
