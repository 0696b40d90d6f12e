"""How a model looks in every plot: its colour, shape and dashes, and the key that tells them. It knows no figures."""

from __future__ import annotations

from service.comparison.render.markup import Markup, join, tag
from service.comparison.render.names import letter
from service.comparison.render.plots.axes import line
from service.comparison.render.view import View

LOOKS = 6
"""Colours and dashes; the seventh model looks as the first and has another letter."""

R = 4.5
SHAPES = (
    [(-R, -R), (R, -R), (R, R), (-R, R)],
    [(0, -R * 1.3), (R * 1.3, R), (-R * 1.3, R)],
    [(0, -R * 1.4), (R * 1.4, 0), (0, R * 1.4), (-R * 1.4, 0)],
    [(0, R * 1.3), (R * 1.3, -R), (-R * 1.3, -R)],
    [(-R * 1.4, -R * 0.6), (R * 1.4, -R * 0.6), (R * 1.4, R * 0.6), (-R * 1.4, R * 0.6)],
)
"""Square, triangle, diamond, triangle upside down, bar; the first model has a disc."""


def look(index: int) -> str:
    """The class of a model's marks."""
    return f"s{index % LOOKS}"


def marker(index: int, x: float, y: float, *children: str) -> Markup:
    """A model's shape at a point."""
    kind = {"class": f"marker {look(index)}"}
    if index % LOOKS == 0:
        return tag("circle", {"cx": x, "cy": y, "r": R, **kind}, *children)
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in SHAPES[index % LOOKS - 1])
    return tag("polygon", {"points": points, **kind}, *children)


def chip(index: int) -> Markup:
    """A model's letter in its colour."""
    return tag("span", {"class": f"chip {look(index)}"}, letter(index))


def key(view: View) -> Markup:
    """Which mark is whose."""
    return tag("ul", {"class": "key"}, *(_entry(view, index) for index in range(len(view.report.models))))


def _entry(view: View, index: int) -> Markup:
    swatch = join([line(0, 7, 34, 7, f"curve {look(index)}"), marker(index, 17, 7)])
    drawn = tag("svg", {"class": "swatch", "viewBox": "0 0 34 14", "aria-hidden": "true"}, swatch)
    return tag("li", None, chip(index), drawn, " ", view.names.label(index))
