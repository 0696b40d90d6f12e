"""The results as a table on the terminal, as Markdown and as JSON. It knows rows, not how they were measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from service.machine import processors
from service.manifest import Manifest
from service.measures import Estimate
from trainer.checkpoint import write_bytes
from trainer.evaluate import Gain, Results, Row
from trainer.recipe import Recipe
from trainer.runs import RESULTS

COLUMNS = ("model", "test errors", "over seeds", "NLL", "ECE", "agree", "params", "size", "ms")


def cells(row: Row) -> tuple[str, ...]:
    """One line of the table as text, in the order of COLUMNS."""
    if row.errors_interval is None:
        errors = f"{row.errors:.1f}"
    else:
        errors = f"{row.errors:.0f} [{row.errors_interval.low:.0f}, {row.errors_interval.high:.0f}]"
    return (
        "a member" if row.role == "member" else row.role,
        errors,
        f"{row.spread.mean:.1f} ± {row.spread.deviation:.1f}" if row.spread else "",
        f"{row.nll:.3f}",
        f"{row.ece:.3f}",
        "" if row.agreement is None else f"{row.agreement:.1%}",
        f"{row.parameters:,}",
        "" if row.bytes is None else decimal(row.bytes),
        "" if row.cpu_ms is None else f"{row.cpu_ms:.3f}",
    )


def notes(results: Results, where: str, example: str = "image") -> list[str]:
    """What the table's figures mean, and the share of its teacher's gain that the student keeps, in sentences.

    `where` is the hardware that the time was measured on; `example` is what one test example is called.
    """
    gain, teacher = results.gain, results.teacher
    its = "specialists'" if teacher == "specialists" else f"{teacher}'s"
    return [
        f"Accuracy above the baseline (paired, 95 %): {teacher} {_points(gain.teacher)}, "
        f"student {_points(gain.student)}. {_kept(gain, its)}",
        f"Errors are of {results.rows[0].examples} test examples, in brackets the 95 % Wilson interval; a member: the "
        f"mean over all. Over seeds: mean ± standard deviation{_counts(results.rows)}. NLL in nats; ECE: 15 bins; "
        f"agree: share of labels that are the {its}; ms: one {example} on one CPU thread, median ({where}).",
    ]


def _kept(gain: Gain, its: str) -> str:
    if gain.kept is not None:
        low, high = gain.kept.interval
        return f"The student keeps {gain.kept.value:.0%} [{low:.0%}, {high:.0%}] of the {its} gain."
    why = "holds 0" if gain.teacher.interval.high >= 0 else "is below 0"
    return f"The share of the gain that the student keeps is not given: the {its} interval {why}."


def _points(estimate: Estimate) -> str:
    value, low, high = (_signed(100 * number) for number in (estimate.value, *estimate.interval))
    return f"{value} points [{low}, {high}]"


def _signed(number: float) -> str:
    """Two decimals; what rounds to 0 has no sign, which would claim a side of 0 that the figure does not show."""
    return f"{number:+.2f}" if round(number, 2) else "0.00"


def _counts(rows: Sequence[Row]) -> str:
    counts = [f"{row.spread.seeds} {row.role}s" for row in rows if row.spread]
    return f" of {', '.join(counts)}" if counts else ""


def show_results(console: Console, results: Results, where: str, example: str = "image") -> None:
    """Prints the table and its notes."""
    table = Table(*COLUMNS, box=SIMPLE_HEAD, padding=0, show_edge=False)
    for column in table.columns:
        column.justify = "left" if column.header == COLUMNS[0] else "right"
        column.no_wrap = True
    for row in results.rows:
        table.add_row(*cells(row), style="bold" if row.role == "student" else None)
    # A narrow terminal wraps the table's lines, which beats cutting its figures off.
    needed = console.measure(table, options=console.options.update(width=500)).maximum
    wide = Console(file=console.file, width=max(console.width, needed), force_terminal=console.is_terminal)
    wide.print(table)
    for note in notes(results, where, example):
        console.print(note, highlight=False)


def markdown(results: Results, where: str) -> str:
    """The same table in Markdown."""
    lines = [COLUMNS, ("---", *["---:"] * (len(COLUMNS) - 1)), *(cells(row) for row in results.rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join([table, *notes(results, where)]) + "\n"


def write_results(folder: Path, recipe: Recipe, results: Results, manifests: Sequence[Manifest], where: str) -> None:
    """Writes `results.md`, then `results.json`, which says that the run is finished."""
    facts: dict[str, Any] = {
        "recipe": recipe.model_dump(mode="json"),
        "published": [f"{manifest.name}/{manifest.version}" for manifest in manifests],
        "hardware": where,
        "rows": [row._asdict() for row in results.rows],
        "member": results.member and results.member._asdict(),
        "taught_by": results.teacher,
        "gain": results.gain._asdict(),
    }
    write_bytes(folder / "results.md", markdown(results, where).encode())
    write_bytes(folder / RESULTS, json.dumps(facts, indent=2).encode())


def hardware(device: torch.device) -> str:
    """The processor, the CPUs that were used of it, and the GPU where one was."""
    text = processors()
    return f"{text}, {torch.cuda.get_device_name(device)}" if device.type == "cuda" else text
