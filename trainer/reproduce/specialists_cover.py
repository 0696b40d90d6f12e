"""The paper's Table 4 beside ours, as a table and a plot: the gain by how many specialists cover an example's class.

It knows the row `with_specialists`, not how it came about.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from trainer.plots import save_figure
from trainer.reproduce.gains import Cover
from trainer.reproduce.rows import Row, spread

PAPER_BY_COVER = {0: 0.0, 1: 3.4, 2: 7.4, 3: 8.8, 4: 10.5, 5: 11.1, 6: 11.3, 7: 12.8, 8: 13.6, 9: 16.6, 10: 14.1}
"""Relative gain in %; 10 stands for 10 or more (Table 4)."""


def cover_table(row: Row, plot: str) -> list[str]:
    """Table 4."""
    lines = ["By the number of specialists that cover an example's class (the paper's Table 4):", ""]
    lines += ["| specialists | test examples | generalist | with specialists | relative gain | paper |"]
    lines += ["|---:|---:|---:|---:|---:|---:|"]
    for covering, covers in _covers(row).items():
        examples = round(statistics.fmean(cover.examples for cover in covers))
        before = spread([cover.generalist for cover in covers], 2)
        after = spread([cover.combined for cover in covers], 2)
        gain, paper = spread(_relative(covers), 2), PAPER_BY_COVER[min(covering, 10)]
        lines.append(f"| {covering} | {examples} | {before} | {after} | {gain} % | {paper} % |")
    return [*lines, "", f"![Relative gain by the number of covering specialists]({plot})"]


def draw_cover(path: Path, row: Row) -> None:
    """The plot that `cover_table` shows."""
    covers = _covers(row)
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


def plot_of(row: Row, name: str) -> str:
    """`<name>-cover.png`, or `<name>-wide_cover.png`."""
    return f"{name}-{row.id.removesuffix('with_specialists')}cover.png"


def _covers(row: Row) -> dict[int, list[Cover]]:
    """Of every seed that has examples of so many covering specialists."""
    found: dict[int, list[Cover]] = defaultdict(list)
    for each in row.details["by_cover"]:
        for facts in each:
            found[facts["specialists"]].append(Cover(**facts))
    return dict(sorted(found.items()))


def _relative(covers: Iterable[Cover]) -> list[float]:
    return [cover.relative_gain for cover in covers if cover.relative_gain is not None]
