"""The distribution of latencies, one line a model: which share of the calls stays within how long."""

from __future__ import annotations

import math
from collections.abc import Mapping

from service.comparison.render.markup import Markup, join, tag
from service.comparison.render.names import letter
from service.comparison.render.numbers import TimeUnit, interval
from service.comparison.render.plots.axes import (
    LEFT,
    RIGHT,
    Axis,
    Band,
    Tick,
    below,
    beside,
    line,
    log_axis,
    log_ticks,
    path,
    plain,
    svg,
    words,
)
from service.comparison.render.plots.series import look, marker
from service.comparison.schema.part import Interval
from service.comparison.schema.speed import Latency

TOP, BOTTOM, HEIGHT = 24.0, 238.0, 276.0
LOWEST, HIGHEST = 0.01, 0.999
SHARES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999)
CAP = 3.5
CLOSE = 18.0
"""Between lines that are nearer than this there is no room for a letter."""


def latency_plot(title: str, latencies: Mapping[int, Latency], unit: TimeUnit) -> Markup:
    """Latencies by the place of their model. The vertical axis is that of log odds, so that both tails are seen."""
    x = log_axis([ms for latency in latencies.values() for ms in _extent(latency)], LEFT, RIGHT)
    y = Axis(LOWEST, HIGHEST, BOTTOM, TOP, lambda share: math.log(share / (1 - share)))
    shares = [Tick(share, f"{100 * share:g} %") for share in SHARES]
    return svg(
        title,
        " ".join(_told(index, latency, unit) for index, latency in latencies.items()),
        HEIGHT,
        below(
            x,
            log_ticks(x, lambda ms: plain(ms * unit.per_ms)),
            [Band(TOP, BOTTOM)],
            f"latency in {unit.name}, logarithmic",
        ),
        beside(y, shares, LEFT, RIGHT, "share of calls that stay within"),
        *(_curve(index, latency, x, y, unit) for index, latency in latencies.items()),
        *_letters(latencies, x, y),
    )


def percentiles(latency: Latency) -> list[tuple[str, float, float, Interval]]:
    """Those that there are enough calls for: name, share, value, interval, from the median up."""
    all_ = [
        ("p50", 0.5, latency.p50, latency.p50_interval),
        ("p90", 0.9, latency.p90, latency.p90_interval),
        ("p99", 0.99, latency.p99, latency.p99_interval),
        ("p99.9", 0.999, latency.p99_9, latency.p99_9_interval),
    ]
    return [(name, share, value, ends) for name, share, value, ends in all_ if value is not None and ends is not None]


def _points(latency: Latency) -> list[tuple[float, float]]:
    return [(share, ms) for share, ms in latency.quantiles if LOWEST <= share <= HIGHEST and ms > 0]


def _extent(latency: Latency) -> list[float]:
    ends = [end for _, _, value, interval_ in percentiles(latency) for end in (value, *interval_)]
    return [ms for _, ms in _points(latency)] + [end for end in ends if end > 0]


def _told(index: int, latency: Latency, unit: TimeUnit) -> str:
    told = (
        f"{name} {unit.time(value)}, 95 % {interval(ends, unit.form)}" for name, _, value, ends in percentiles(latency)
    )
    return f"{letter(index)}: {'; '.join(told)}."


def _curve(index: int, latency: Latency, x: Axis, y: Axis, unit: TimeUnit) -> Markup:
    points = [(x.at(ms), y.at(share)) for share, ms in _points(latency)]
    marks = [path(points, f"curve {look(index)}")] if points else []
    for name, share, value, (low, high) in percentiles(latency):
        height = y.at(share)
        marks += [
            line(x.at(low), height, x.at(high), height, f"whisker {look(index)}"),
            *(line(x.at(end), height - CAP, x.at(end), height + CAP, f"whisker {look(index)}") for end in (low, high)),
            marker(index, x.at(value), height, tag("title", None, f"{letter(index)}, {name}: {unit.time(value)}")),
        ]
    return join(marks)


def _foot(latency: Latency) -> float:
    return min((ms for _, ms in _points(latency)), default=latency.p50)


def _letters(latencies: Mapping[int, Latency], x: Axis, y: Axis) -> list[Markup]:
    """A letter to the left of each line's foot; to the right of it where another line is close at the left alone."""
    feet = sorted((x.at(_foot(latency)), index) for index, latency in latencies.items())
    places = [-math.inf, *(foot for foot, _ in feet), math.inf]
    marks = []
    for (foot, index), before, after in zip(feet, places, places[2:], strict=False):
        right = foot - before < CLOSE <= after - foot
        where = (foot + 5, y.at(0.018)) if right else (foot - 4, y.at(0.03))
        marks.append(words(*where, letter(index), f"letter {look(index)}", None if right else "end"))
    return marks
