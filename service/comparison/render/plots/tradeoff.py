"""Accuracy against latency, both with their intervals, and which models no other one beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from service.comparison.render.markup import Markup, join, tag
from service.comparison.render.names import letter
from service.comparison.render.numbers import Shares, TimeUnit, interval
from service.comparison.render.plots.axes import (
    LEFT,
    RIGHT,
    Axis,
    Band,
    below,
    beside,
    line,
    linear_axis,
    linear_ticks,
    log_axis,
    log_ticks,
    path,
    plain,
    svg,
    words,
)
from service.comparison.render.plots.series import look, marker
from service.comparison.schema.part import Interval

TOP, BOTTOM, HEIGHT = 24.0, 218.0, 256.0
ROOM = 26.0
"""That a letter takes beside its point."""


class Point(NamedTuple):
    """A model: its place, accuracy and median latency."""

    place: int
    accuracy: float
    accuracy_interval: Interval
    ms: float
    ms_interval: Interval


def frontier(points: Sequence[Point]) -> list[Point]:
    """The models that are on the Pareto frontier, the quickest first: none is both quicker and more accurate."""
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (point.ms, -point.accuracy)):
        if not best or point.accuracy > best[-1].accuracy:
            best.append(point)
    return best


def tradeoff_plot(points: Sequence[Point], shares: Shares, unit: TimeUnit) -> Markup:
    """All models as points; the frontier as steps."""
    x = log_axis([end for point in points for end in (point.ms, *point.ms_interval) if end > 0], LEFT, RIGHT)
    y = linear_axis([end for point in points for end in point.accuracy_interval], BOTTOM, TOP)
    best = ", ".join(letter(point.place) for point in frontier(points))
    return svg(
        "Accuracy against latency",
        f"{' '.join(_told(point, shares, unit) for point in points)} On the Pareto frontier: {best}.",
        HEIGHT,
        below(
            x,
            log_ticks(x, lambda ms: plain(ms * unit.per_ms)),
            [Band(TOP, BOTTOM)],
            f"median latency of one row in {unit.name}, logarithmic",
        ),
        beside(y, linear_ticks(y, lambda value: f"{100 * value:.4g} %"), LEFT, RIGHT, "accuracy"),
        _steps(frontier(points), x, y),
        *(_cross(point, x, y, _told(point, shares, unit)) for point in points),
        *(_letter(point, points, x, y) for point in points),
    )


def _told(point: Point, shares: Shares, unit: TimeUnit) -> str:
    right = f"{shares.share(point.accuracy)}, 95 % {interval(point.accuracy_interval, shares.percent)}"
    return f"{letter(point.place)}: {right}, at {unit.time(point.ms)}, 95 % {interval(point.ms_interval, unit.form)}."


def _steps(best: Sequence[Point], x: Axis, y: Axis) -> Markup:
    corners = [(x.at(best[0].ms), y.start)]
    for point, after in zip(best, [*best[1:], None], strict=True):
        right = x.end if after is None else x.at(after.ms)
        corners += [(x.at(point.ms), y.at(point.accuracy)), (right, y.at(point.accuracy))]
    return path(corners, "frontier")


def _cross(point: Point, x: Axis, y: Axis, told: str) -> Markup:
    across, up, kind = x.at(point.ms), y.at(point.accuracy), f"whisker {look(point.place)}"
    (left, right), (low, high) = point.ms_interval, point.accuracy_interval
    return join(
        [
            line(x.at(left), up, x.at(right), up, kind),
            line(across, y.at(low), across, y.at(high), kind),
            *(line(across - 3.5, y.at(end), across + 3.5, y.at(end), kind) for end in (low, high)),
            *(line(x.at(end), up - 3.5, x.at(end), up + 3.5, kind) for end in (left, right)),
            marker(point.place, across, up, tag("title", None, told)),
        ]
    )


def _letter(point: Point, points: Sequence[Point], x: Axis, y: Axis) -> Markup:
    """To the right of a point, unless another one is there."""
    across, up = x.at(point.ms), y.at(point.accuracy)
    crowded = any(
        0 < x.at(other.ms) - across < ROOM and abs(y.at(other.accuracy) - up) < ROOM
        for other in points
        if other is not point
    )
    where, anchor = (across - 9, "end") if crowded else (across + 9, None)
    return words(where, up - 8, letter(point.place), f"letter {look(point.place)}", anchor)
