"""`specialists.md` and its plot: the rows, what they gain over each other, the paper's Tables 3 and 4 beside ours.

It knows rows, not experiments.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from trainer.checkpoint import write_bytes
from trainer.plots import save_figure
from trainer.reproduce.gains import Cover
from trainer.reproduce.rows import Results, Row, number

PAPER_CONDITIONAL = {"generalist": 43.1, "combined": 45.9}
"""% (Table 3)."""
PAPER_BY_COVER = {0: 0.0, 1: 3.4, 2: 7.4, 3: 8.8, 4: 10.5, 5: 11.1, 6: 11.3, 7: 12.8, 8: 13.6, 9: 16.6, 10: 14.1}
"""Relative gain in %; 10 stands for 10 or more (Table 4)."""
PLOT = "specialists-cover.png"


def write_report(out: Path, results: Results) -> None:
    """Writes both."""
    write_bytes(out / "specialists.md", markdown(results).encode())
    for row in results.rows:
        if row.id == "with_specialists":
            _draw(out / PLOT, _covers(row))


def markdown(results: Results) -> str:
    """The command, the machine, the rows, and what follows from them."""
    rows = {row.id: row for row in results.rows}
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
        *map(_line, results.rows),
        "",
        *_gains(rows),
        *_notes(rows),
    ]
    if "with_specialists" in rows:
        lines += ["", *_conditional(rows["with_specialists"]), "", *_by_cover(rows["with_specialists"])]
        lines += ["", *_groups(rows["with_specialists"])]
    return "\n".join(lines).rstrip() + "\n"


def _line(row: Row) -> str:
    ours = _spread(row.values, 1 if row.metric == "percent" else 2)
    cells = (f"`{row.id}`", row.title, number(row.paper), number(row.goal), ours, f"{row.seconds:.0f} s")
    return f"| {' | '.join(cells)} |"


def _spread(values: Sequence[float], decimals: int) -> str:
    """`85.31 ± 0.12 [3]`."""
    if not values:
        return "none"
    deviation = f" ± {statistics.stdev(values):.{decimals}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{decimals}f}{deviation} [{len(values)}]"


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
    lines = ["| points | over | on the same test examples, 95 % | of each seed |", "|---|---|---:|---|"]
    for who, over, gain in found:
        each = "; ".join(map(_interval, gain["of_each_seed"]))
        lines.append(f"| `{who}` | `{over}` | {_interval(gain['points'])} | {each} |")
    return lines


def _interval(points: Sequence[float]) -> str:
    value, low, high = points
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"


def _notes(rows: dict[str, Row]) -> list[str]:
    """What a row says beside its values."""
    notes = []
    if "with_specialists" in rows:
        details = rows["with_specialists"].details
        seen, before = details["examples_seen"], rows["generalist"].details["examples_seen"]
        notes.append(
            f"All specialists of a generalist saw {statistics.fmean(seen) / before:.2f} times as many examples in "
            f"training as it did ({before:,}), each with a network of its size: so much `generalist_longer` trained on."
        )
        largest = max(details["largest_error"])
        notes.append(f"Combined in {', '.join(details['steps'])} steps, off by {largest:.1g} at most on validation.")
    if "ensemble_same_cost" in rows:
        members = rows["ensemble_same_cost"].details["members"]
        notes.append(f"`ensemble_same_cost` has {', '.join(map(str, members))} members: the cost is rounded up.")
    if "student" in rows:
        notes.append(f"Students learn from {rows['student'].details['transfer_inputs']:,} inputs without their labels.")
    if "gain_kept_by_student" in rows:
        details = rows["gain_kept_by_student"].details
        if not details["beats_student_from_generalist"]:
            notes.append(
                "`student` is not shown to beat `student_from_generalist`: its share of the gain is no claim that the "
                "specialists' knowledge was kept."
            )
        if details["seeds_without_gain"]:
            notes.append(f"In {details['seeds_without_gain']} seeds specialists gained nothing to keep.")
    return ["", *(f"- {note}" for note in notes)] if notes else []


def _conditional(row: Row) -> list[str]:
    """Table 3."""
    lines = ["Among the examples of each specialist's classes, when only those may be answered (Table 3):", ""]
    lines += ["| conditional accuracy | paper | ours |", "|---|---:|---:|"]
    names = {"generalist": "generalist", "combined": "with specialists"}
    for key, name in names.items():
        ours = _spread(row.details["conditional_accuracy"][key], 2)
        lines.append(f"| {name} | {PAPER_CONDITIONAL[key]} % | {ours} |")
    return lines


def _covers(row: Row) -> dict[int, list[Cover]]:
    """Of every seed that has examples of so many covering specialists."""
    found: dict[int, list[Cover]] = defaultdict(list)
    for each in row.details["by_cover"]:
        for facts in each:
            found[facts["specialists"]].append(Cover(**facts))
    return dict(sorted(found.items()))


def _relative(covers: Iterable[Cover]) -> list[float]:
    return [cover.relative_gain for cover in covers if cover.relative_gain is not None]


def _by_cover(row: Row) -> list[str]:
    """Table 4."""
    lines = ["By the number of specialists that cover an example's class (the paper's Table 4):", ""]
    lines += ["| specialists | test examples | generalist | with specialists | relative gain | paper |"]
    lines += ["|---:|---:|---:|---:|---:|---:|"]
    for covering, covers in _covers(row).items():
        examples = round(statistics.fmean(cover.examples for cover in covers))
        before = _spread([cover.generalist for cover in covers], 2)
        after = _spread([cover.combined for cover in covers], 2)
        gain, paper = _spread(_relative(covers), 2), PAPER_BY_COVER[min(covering, 10)]
        lines.append(f"| {covering} | {examples} | {before} | {after} | {gain} % | {paper} % |")
    return [*lines, "", f"![Relative gain by the number of covering specialists]({PLOT})"]


def _groups(row: Row) -> list[str]:
    """Of the first seed."""
    lines = ["Groups of the first seed, and their share of the generalist's confusion:", ""]
    lines += ["| specialist | classes | share |", "|---:|---|---:|"]
    pairs = zip(row.details["groups"][0], row.details["confusion_within_groups"][0], strict=True)
    for place, (classes, share) in enumerate(pairs, start=1):
        lines.append(f"| {place} | {' '.join(classes)} | {share:.1%} |")
    return lines


def _draw(path: Path, covers: dict[int, list[Cover]]) -> None:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    gains = {covering: _relative(found) for covering, found in covers.items()}
    shown: dict[str, Any] = {"marker": "o", "capsize": 3, "label": "ours, mean and deviation over seeds"}
    spreads = [statistics.stdev(found) if len(found) > 1 else 0.0 for found in gains.values()]
    axes.errorbar(list(gains), [statistics.fmean(found or [0.0]) for found in gains.values()], spreads, **shown)
    paper = {covering: gain for covering, gain in PAPER_BY_COVER.items() if covering <= max(gains)}
    axes.plot(list(paper), list(paper.values()), marker="s", linestyle="--", label="the paper's, on JFT")
    axes.axhline(0.0, color="grey", linewidth=0.8)
    axes.set(xlabel="specialists that cover an example's class", ylabel="relative gain in accuracy, %")
    axes.set_xticks(list(gains))
    figure.legend(loc="outside upper center", ncols=2)
    save_figure(figure, path)
