"""Estimates below one another, each with its interval, and the line that means "no difference", and a margin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from service.comparison.render.markup import Markup, join, tag
from service.comparison.render.plots.axes import (
    RIGHT,
    WIDTH,
    Axis,
    Band,
    below,
    line,
    linear_axis,
    linear_ticks,
    log_axis,
    log_ticks,
    svg,
    upright,
    words,
)
from service.comparison.schema.part import Estimate

ROW, EDGE, LINE = 38.0, 14.0, 13.0
WORDS, SPACE = 13.0, 3.0
"""Of a row's height, at its top and at its end."""
CAP = 4.0


class Row(NamedTuple):
    """What is estimated, the estimate, and both in words."""

    name: str
    estimate: Estimate
    told: str


class Mark(NamedTuple):
    """A vertical line and what it means."""

    value: float
    text: str
    kind: str


def difference_plot(title: str, rows: Sequence[Row], marks: Sequence[Mark], form: Callable[[float], str]) -> Markup:
    """Differences on a linear axis."""
    axis = linear_axis([*_ends(rows), *(mark.value for mark in marks)], EDGE, RIGHT)
    scale = below(axis, linear_ticks(axis, form), _bands(rows, marks), "percentage points")
    return _plot(title, rows, marks, axis, scale)


def ratio_plot(title: str, rows: Sequence[Row], mark: Mark, form: Callable[[float], str]) -> Markup:
    """Ratios on a logarithmic axis."""
    axis = log_axis([*_ends(rows), mark.value], EDGE, RIGHT)
    scale = below(axis, log_ticks(axis, form), _bands(rows, [mark]), "times, logarithmic")
    return _plot(title, rows, [mark], axis, scale)


def _ends(rows: Sequence[Row]) -> list[float]:
    return [end for row in rows for end in (row.estimate.value, *row.estimate.interval)]


def _top(marks: Sequence[Mark]) -> float:
    """Where the plot begins; above it each mark's words have a line."""
    return 8 + LINE * len(marks)


def _bands(rows: Sequence[Row], marks: Sequence[Mark]) -> list[Band]:
    """Where an interval is, and not its words, which no line crosses."""
    tops = [_top(marks) + 8 + ROW * index for index in range(len(rows))]
    return [Band(top + WORDS, top + ROW - SPACE) for top in tops] or [Band(_top(marks), _top(marks) + 8)]


def _plot(title: str, rows: Sequence[Row], marks: Sequence[Mark], axis: Axis, scale: Markup) -> Markup:
    top, bands = _top(marks), _bands(rows, marks)
    told = " ".join(f"{row.name}: {row.told}." for row in rows)
    meant = " ".join(f"A line marks {mark.text}." for mark in marks)
    return svg(
        title,
        f"{told} {meant}",
        bands[-1].bottom + 38,
        scale,
        *(_mark(mark, axis, top, bands, turn) for turn, mark in enumerate(marks)),
        *(_row(row, axis, top + 8 + ROW * index) for index, row in enumerate(rows)),
    )


def _mark(mark: Mark, axis: Axis, top: float, bands: Sequence[Band], turn: int) -> Markup:
    x = axis.at(mark.value)
    anchor = "start" if x < WIDTH / 3 else "end" if x > 2 * WIDTH / 3 else "middle"
    return join([upright(x, bands, mark.kind), words(x, top - 6 - LINE * turn, mark.text, "tick", anchor)])


def _row(row: Row, axis: Axis, top: float) -> Markup:
    y = top + 24
    low, high = (axis.at(end) for end in row.estimate.interval)
    return join(
        [
            words(EDGE, top + 9, f"{row.name}: {row.told}", "told"),
            line(low, y, high, y, "whisker"),
            *(line(x, y - CAP, x, y + CAP, "whisker") for x in (low, high)),
            tag("circle", {"cx": axis.at(row.estimate.value), "cy": y, "r": 4.5, "class": "marker"}),
        ]
    )
