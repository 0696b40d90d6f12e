"""The figures of a report: a plot, its caption, the key of its marks. It knows what a plot takes, not how it draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from service.comparison.render.latency_table import unit_of
from service.comparison.render.markup import Markup, join, tag
from service.comparison.render.names import letter
from service.comparison.render.numbers import interval, time_unit, times
from service.comparison.render.plots.axes import plain
from service.comparison.render.plots.confusion import confusion_table
from service.comparison.render.plots.forest import Mark, Row, difference_plot, ratio_plot
from service.comparison.render.plots.latency import latency_plot
from service.comparison.render.plots.reliability import reliability_plot
from service.comparison.render.plots.series import chip, key
from service.comparison.render.plots.tradeoff import Point, tradeoff_plot
from service.comparison.render.view import View
from service.comparison.schema.part import Estimate
from service.comparison.schema.quality import PairOnClass
from service.comparison.schema.report import Pair
from service.comparison.schema.speed import Latency

EVEN = Mark(0.0, "no difference", "zero")


def figure(caption: str, *parts: Markup) -> Markup:
    """A plot under its words."""
    return tag("figure", None, tag("figcaption", None, caption), *parts)


def grid(*figures: Markup) -> Markup:
    """Figures beside one another where there is room."""
    return tag("div", {"class": "figures"}, *figures)


def differences(view: View) -> Markup:
    """The accuracy of all pairs against the margin."""
    rows = [
        _row(view, versus(view, pair), pair.accuracy_difference)
        for pair in view.report.pairs
        if pair.accuracy_difference is not None
    ]
    margin = view.report.settings.request.margin
    marks = [EVEN] if margin is None else [EVEN, Mark(-margin / 100, f"margin −{margin:g}", "margin")]
    caption = "Difference in accuracy, paired, with its 95 % interval"
    if margin is not None:
        caption += ": shown where the whole interval lies to the right of the margin"
    return grid(figure(caption, difference_plot(caption, rows, marks, lambda v: plain(100 * v)), key(view)))


def class_differences(view: View, pair: Pair, classes: Sequence[PairOnClass]) -> Markup:
    """The difference in accuracy on single classes."""
    rows = [_row(view, f"{each.label} ({each.examples})", each.accuracy_difference) for each in classes]
    caption = f"{versus(view, pair)}: difference in accuracy by class, with the number of its examples"
    return figure(caption, difference_plot(caption, rows, [EVEN], lambda v: plain(100 * v)))


def versus(view: View, pair: Pair) -> str:
    """A vs B."""
    return " vs ".join(letter(place) for place in view.names.pair(pair))


def _row(view: View, name: str, estimate: Estimate | None) -> Row:
    assert estimate is not None
    told = f"{view.shares.points(estimate.value)} {interval(estimate.interval, view.shares.points)}"
    return Row(name, estimate, told)


def latencies(view: View, caption: str, found: Mapping[int, Latency | None]) -> Markup:
    """The distributions of those models that were measured so."""
    some = {place: latency for place, latency in found.items() if latency is not None}
    if not some:
        return Markup()
    return figure(caption, latency_plot(caption, some, unit_of(some)), key(view))


def ratios(view: View, caption: str, estimates: Sequence[tuple[str, Estimate]]) -> Markup:
    """Speed-ups below one another."""
    rows = [Row(name, each, f"{times(each.value)} {interval(each.interval, times)}") for name, each in estimates]
    plot = ratio_plot(caption, rows, Mark(1.0, "as fast", "zero"), lambda value: f"{plain(value)}×")
    return figure(caption, plot)


def tradeoff(view: View) -> Markup:
    """Accuracy against latency."""
    points = [
        Point(place, model.accuracy, model.accuracy_interval, model.latency_ms.p50, model.latency_ms.p50_interval)
        for place, model in enumerate(view.report.models)
        if model.accuracy is not None and model.accuracy_interval is not None
    ]
    unit = time_unit(end for point in points for end in point.ms_interval)
    caption = "Accuracy against latency; the broken line joins the models that no other one beats in both"
    return figure(caption, tradeoff_plot(points, view.shares, unit), key(view)) if points else Markup()


BARS = (
    "Reliability: bars are the share of right answers in each bin of confidence, with Wilson intervals; heavy dashes "
    "the mean confidence. The two are equal on the diagonal; below it a model is too sure of itself."
)


def reliabilities(view: View) -> Markup:
    """A reliability diagram for each model."""
    diagrams = grid(
        *(
            tag(
                "figure",
                None,
                tag("figcaption", None, chip(place), " ", view.names.label(place)),
                reliability_plot(f"Reliability of {view.names.label(place)}", place, model.reliability),
            )
            for place, model in enumerate(view.report.models)
            if model.reliability
        )
    )
    return join([tag("p", {"class": "note"}, BARS), diagrams])


def confusions(view: View) -> Markup:
    """A confusion matrix for each model that has one."""
    tables = (
        confusion_table(join([chip(place), " ", view.names.label(place)]), view.report.data.classes, model.confusion)
        for place, model in enumerate(view.report.models)
        if model.confusion
    )
    return tag("div", {"class": "matrices"}, *tables)
