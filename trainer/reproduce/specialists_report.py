"""`specialists.md` and its plot: the rows, what they gain over each other, the paper's Tables 3 and 4 beside ours.

It knows rows, not experiments.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trainer.checkpoint import write_bytes
from trainer.reproduce.rows import Results, Row, line, spread
from trainer.reproduce.specialists_cover import cover_table, draw_cover, plot_of
from trainer.reproduce.specialists_plan import WIDE_PREFIX

PAPER_CONDITIONAL = {"generalist": 43.1, "combined": 45.9}
"""% (Table 3)."""


def write_report(place: Path, results: Results) -> None:
    """Writes `<place>.md` and a plot for each generalist."""
    write_bytes(place.with_suffix(".md"), markdown(results, place.name).encode())
    for row in results.rows:
        if row.id.endswith("with_specialists"):
            draw_cover(place.with_name(plot_of(row, place.name)), row)


def markdown(results: Results, name: str) -> str:
    """The command, the machine, the rows, and what follows from them."""
    lines = [
        "# The paper's section on specialists, reproduced on EMNIST's 62 characters",
        "",
        f"    {results.command}",
        "",
        f"{results.hardware}; {results.seconds / 3600:.1f} hours. Accuracy on the test examples in %, mean ± standard",
        "deviation over seeds (their number in brackets). Validation examples, which are not learnt, choose epochs.",
        "",
        "| row | what | paper | to reach | ours | time |",
        "|---|---|---:|---:|---:|---:|",
        *(line(row, 1 if row.metric == "percent" else 2) for row in results.rows),
    ]
    for prefix in ("", WIDE_PREFIX):
        rows = {row.id.removeprefix(prefix): row for row in results.rows if _is_of(row, prefix)}
        lines += _section(rows, name)
    return "\n".join(lines).rstrip() + "\n"


def _is_of(row: Row, prefix: str) -> bool:
    return row.id.startswith(WIDE_PREFIX) == bool(prefix)


def _section(rows: dict[str, Row], name: str) -> list[str]:
    """What follows from the rows of one generalist, whose ids come without their prefix."""
    if not rows:
        return []
    lines = ["", f"## {next(iter(rows.values())).title}", "", *_gains(rows), *_notes(rows)]
    if "with_specialists" in rows:
        row = rows["with_specialists"]
        lines += ["", *_conditional(row), "", *cover_table(row, plot_of(row, name)), "", *_groups(row)]
    return lines


def _gains(rows: dict[str, Row]) -> list[str]:
    """Every paired difference that a row holds."""
    asked = [
        ("with_specialists", "gain", "generalist"),
        ("generalist_longer", "gain_of_specialists", "generalist_longer"),
        ("ensemble_same_cost", "gain_of_specialists", "ensemble_same_cost"),
        ("generalist_longer", "gain", "generalist"),
        ("student", "gain", "generalist"),
        ("student_from_generalist", "gain", "generalist"),
        ("student_from_generalist", "gain_of_student", "student_from_generalist"),
    ]
    subject = {"gain_of_specialists": "with_specialists", "gain_of_student": "student"}
    found = [(subject.get(key, name), other, rows[name].details[key]) for name, key, other in asked if name in rows]
    if not found:
        return []
    lines = ["| points | over | these networks, on the same test examples, 95 % | of each seed |", "|---|---|---:|---|"]
    for who, over, gain in found:
        each = "; ".join(map(_interval, gain["of_each_seed"]))
        lines.append(f"| `{who}` | `{over}` | {_interval(gain['points'])} | {each} |")
    return lines


def _interval(points: Sequence[float]) -> str:
    value, low, high = points
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"


def _notes(rows: dict[str, Row]) -> list[str]:
    """What a row says beside its values."""
    tellers: dict[str, Callable[[dict[str, Any]], list[str]]] = {
        "with_specialists": _of_specialists,
        "ensemble_same_cost": _of_ensembles,
        "student": _of_students,
        "gain_kept_by_student": _of_share,
    }
    notes = [note for name, tell in tellers.items() if name in rows for note in tell(rows[name].details)]
    return ["", *(f"- {note}" for note in notes)] if notes else []


def _of_specialists(details: dict[str, Any]) -> list[str]:
    seen, before = details["examples_seen"], details["examples_seen_by_generalist"]
    return [
        f"All specialists of a generalist saw {statistics.fmean(seen) / before:.2f} times as many examples in training "
        f"as it did ({before:,}), each with a network of its size: so much `generalist_longer` trained on.",
        f"Combined in {', '.join(details['steps'])} steps, off by {max(details['largest_error']):.1g} at most on "
        "validation.",
    ]


def _of_ensembles(details: dict[str, Any]) -> list[str]:
    return [
        f"`ensemble_same_cost` has {', '.join(map(str, details['members']))} members: the cost is rounded up. With one "
        f"fewer, at no more than the specialists' cost, it reaches {spread(details['one_fewer'], 2)}: "
        f"`with_specialists` over those is {_interval(details['gain_of_specialists_over_one_fewer']['points'])} points."
    ]


def _of_students(details: dict[str, Any]) -> list[str]:
    return [f"Students see {details['transfer_inputs']:,} inputs, training examples and unlabelled ones."]


def _of_share(details: dict[str, Any]) -> list[str]:
    notes = []
    if not details["beats_student_from_generalist"]:
        notes.append(
            "`student` is not shown to beat `student_from_generalist`: its share of the gain is no claim that the "
            "specialists' knowledge was kept."
        )
    if details["together"]:
        value, low, high = details["together"]
        notes.append(f"Of all seeds together, the student keeps {value:.0f} % of the gain [{low:.0f}, {high:.0f}].")
    if details["seeds_without_gain"]:
        notes.append(f"Seeds in which specialists gain nothing that is shown: {details['seeds_without_gain']}.")
    return notes


def _conditional(row: Row) -> list[str]:
    """Table 3."""
    lines = ["Among the examples of each specialist's classes, when only those may be answered (Table 3):", ""]
    lines += ["| conditional accuracy | paper | ours |", "|---|---:|---:|"]
    names = {"generalist": "generalist", "combined": "with specialists"}
    for key, name in names.items():
        ours = spread(row.details["conditional_accuracy"][key], 2)
        lines.append(f"| {name} | {PAPER_CONDITIONAL[key]} % | {ours} |")
    return lines


def _groups(row: Row) -> list[str]:
    """Of the first seed."""
    lines = ["Groups of the first seed, and their share of the generalist's confusion:", ""]
    lines += ["| specialist | classes | share |", "|---:|---|---:|"]
    pairs = zip(row.details["groups"][0], row.details["confusion_within_groups"][0], strict=True)
    for place, (classes, share) in enumerate(pairs, start=1):
        lines.append(f"| {place} | {' '.join(classes)} | {share:.1%} |")
    return lines
