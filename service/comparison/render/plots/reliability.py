"""A reliability diagram: how often a model is right in each bin of its confidence, and how many examples that is of."""

from __future__ import annotations

from collections.abc import Sequence

from service.comparison.render.markup import Markup, join, tag
from service.comparison.render.numbers import whole
from service.comparison.render.plots.axes import LEFT, RIGHT, Axis, Band, Tick, below, beside, line, path, svg, words
from service.comparison.render.plots.series import look
from service.comparison.schema.quality import ReliabilityBin
from service.measures import wilson

TOP, BOTTOM, HEIGHT = 24.0, 224.0, 308.0
COUNTS = 268.0
"""Where the counts end: they are written upwards, so that fifteen have room beside each other."""

TENTHS = tuple(Tick(tenth / 10, f"{10 * tenth} %") for tenth in range(0, 11, 2))


def reliability_plot(title: str, index: int, bins: Sequence[ReliabilityBin]) -> Markup:
    """Bars to the accuracy of each bin with its Wilson interval, a dash at its mean confidence, the diagonal."""
    x, y = Axis(0.0, 1.0, LEFT, RIGHT), Axis(0.0, 1.0, BOTTOM, TOP)
    return svg(
        title,
        " ".join(_told(bin_) for bin_ in bins),
        HEIGHT,
        beside(y, TENTHS, LEFT, RIGHT, "right"),
        below(x, TENTHS, [Band(TOP, COUNTS)], "confidence"),
        *(_bar(index, bin_, x, y) for bin_ in bins),
        path([(x.start, y.start), (x.end, y.end)], "diagonal"),
        words(2, COUNTS - 4, "count", "tick"),
    )


def _told(bin_: ReliabilityBin) -> str:
    return (
        f"Confidence {100 * bin_.low:.0f} to {100 * bin_.high:.0f} %: {whole(bin_.examples)} examples, "
        f"{100 * bin_.accuracy:.1f} % right at a mean confidence of {100 * bin_.confidence:.1f} %."
    )


def _bar(index: int, bin_: ReliabilityBin, x: Axis, y: Axis) -> Markup:
    left, right, up = x.at(bin_.low) + 1, x.at(bin_.high) - 1, y.at(bin_.accuracy)
    middle = (left + right) / 2
    low, high = wilson(round(bin_.accuracy * bin_.examples), bin_.examples) if bin_.examples else (0.0, 1.0)
    box = {"x": left, "y": up, "width": right - left, "height": y.start - up, "class": f"bar {look(index)}"}
    sure = y.at(bin_.confidence)
    return join(
        [
            tag("rect", box, tag("title", None, _told(bin_))),
            line(middle, y.at(low), middle, y.at(high), "whisker"),
            line(left, sure, right, sure, "sure"),
            words(middle + 4, COUNTS - 4, whole(bin_.examples), "count", transform=_upwards(middle + 4, COUNTS - 4)),
        ]
    )


def _upwards(x: float, y: float) -> str:
    return f"rotate(-90 {x:.1f} {y:.1f})"
