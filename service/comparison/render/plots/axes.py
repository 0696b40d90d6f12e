"""Scales, ticks and the frame of a plot. It knows numbers and pixels, no models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from service.comparison.render.markup import Markup, join, tag

WIDTH = 380.0
"""Of every plot, in units of its view box: on a phone a unit is a little less than a pixel."""

LEFT, RIGHT = 50.0, WIDTH - 20.0
MOST_TICKS = 6

Curve = Callable[[float], float]


class Axis(NamedTuple):
    """From values to coordinates: `curve` is what makes the axis straight, `log10` of a logarithmic one."""

    low: float
    high: float
    start: float
    end: float
    curve: Curve = float

    def at(self, value: float) -> float:
        """The coordinate of a value; what lies outside is drawn at the edge."""
        low, high = self.curve(self.low), self.curve(self.high)
        share = (self.curve(min(max(value, self.low), self.high)) - low) / (high - low)
        return self.start + share * (self.end - self.start)


def plain(value: float) -> str:
    """A round number, as an axis has them."""
    return f"{value:,.10g}".replace("-", "−")


class Tick(NamedTuple):
    """A place on an axis and its words."""

    value: float
    text: str


class Band(NamedTuple):
    """A part of a plot's height in which lines are drawn."""

    top: float
    bottom: float


def log_axis(values: Iterable[float], start: float, end: float) -> Axis:
    """Logarithmic, with room at both ends."""
    some = list(values)
    low, high = min(some), max(some)
    room = max(high / low, 1.5) ** 0.06
    return Axis(low / room, high * room, start, end, math.log10)


def linear_axis(values: Iterable[float], start: float, end: float, room: float = 0.08) -> Axis:
    """Linear, with room at both ends."""
    some = list(values)
    low, high = min(some), max(some)
    more = room * (high - low) or 0.01
    return Axis(low - more, high + more, start, end)


def log_ticks(axis: Axis, form: Callable[[float], str]) -> list[Tick]:
    """At 1, 2 and 5 of each decade; at fewer where there are many decades, at more where there is hardly one."""
    first, last = math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high))
    places: list[float] = []
    for steps in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        all_ = [step * 10.0**power for power in range(first, last + 1) for step in steps]
        places = [value for value in all_ if axis.low <= value <= axis.high]
        if len(places) <= MOST_TICKS:
            break
    return [Tick(value, form(value)) for value in places[:: math.ceil(len(places) / MOST_TICKS) or 1]]


def linear_ticks(axis: Axis, form: Callable[[float], str]) -> list[Tick]:
    """At round numbers."""
    rough = (axis.high - axis.low) / MOST_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first, last = math.ceil(axis.low / step), math.floor(axis.high / step)
    return [Tick(index * step, form(index * step)) for index in range(first, last + 1)]


def svg(title: str, description: str, height: float, *children: str) -> Markup:
    """A picture that a screen reader can tell."""
    attributes = {"class": "plot", "role": "img", "viewBox": f"0 0 {WIDTH:g} {height:g}"}
    return tag("svg", attributes, tag("title", None, title), tag("desc", None, description), *children)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """A straight line of a class."""
    return tag("line", {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "class": kind})


def upright(x: float, bands: Sequence[Band], kind: str) -> Markup:
    """A vertical line, as far as the bands go."""
    return join([line(x, band.top, x, band.bottom, kind) for band in bands])


def words(x: float, y: float, text: str, kind: str = "", anchor: str | None = None, **more: str) -> Markup:
    """Text in a plot."""
    return tag("text", {"x": x, "y": y, "class": kind or None, "text-anchor": anchor, **more}, text)


def path(points: Sequence[tuple[float, float]], kind: str) -> Markup:
    """A broken line through points."""
    return tag("polyline", {"points": " ".join(f"{x:.1f},{y:.1f}" for x, y in points), "class": kind})


def below(axis: Axis, ticks: Sequence[Tick], bands: Sequence[Band], title: str) -> Markup:
    """A horizontal axis under a plot, with its grid in each of these bands, the last of which ends where it lies."""
    parts = [upright(axis.at(tick.value), bands, "grid") for tick in ticks]
    bottom = bands[-1].bottom
    parts += [words(axis.at(tick.value), bottom + 15, tick.text, "tick", "middle") for tick in ticks]
    middle = (axis.start + axis.end) / 2
    return join([*parts, words(middle, bottom + 32, title, "axis", "middle")])


def beside(axis: Axis, ticks: Sequence[Tick], left: float, right: float, title: str) -> Markup:
    """A vertical axis to the left of a plot, with its grid; its title lies above it."""
    parts = [line(left, axis.at(tick.value), right, axis.at(tick.value), "grid") for tick in ticks]
    parts += [words(left - 6, axis.at(tick.value) + 4, tick.text, "tick", "end") for tick in ticks]
    return join([*parts, words(2, min(axis.start, axis.end) - 9, title, "axis")])
