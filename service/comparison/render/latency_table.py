"""A table of latencies: percentiles and mean of each model with their intervals, in one unit. It knows no scenario."""

from __future__ import annotations

from collections.abc import Mapping

from service.comparison.render.blocks import Cell, Table, model_cell
from service.comparison.render.numbers import NOTHING, TimeUnit, interval, time_unit
from service.comparison.render.view import View
from service.comparison.schema.part import Interval
from service.comparison.schema.speed import Latency

FEW = "too few calls"
NO_ANSWER = "no answer"
PERCENTILES = ("p90", "p99", "p99.9", "mean")

Found = Mapping[int, Latency | None]
"""By the place of the model; None where it gave no answer."""


def latency_table(view: View, title: str, found: Found, last: tuple[str, Mapping[int, str]], note: str = "") -> Table:
    """`last` is one more column: its title, and a text for each model."""
    unit = unit_of(found)
    name, texts = last
    rows = [
        (model_cell(place, view.names.label(place)), *_cells(latency, unit), Cell(texts[place]))
        for place, latency in found.items()
    ]
    return Table(title, ("model", f"p50, {unit.name}", *PERCENTILES, name), rows, note)


def unit_of(found: Found) -> TimeUnit:
    """In which all these numbers are short."""
    return time_unit([ms for latency in found.values() if latency for ms in _values(latency)])


def _values(latency: Latency) -> list[float]:
    ends = (end for _, ends in _pairs(latency) if ends is not None for end in ends)
    return [*(value for value, _ in _pairs(latency) if value is not None), *ends]


def _pairs(latency: Latency) -> list[tuple[float | None, Interval | None]]:
    return [
        (latency.p50, latency.p50_interval),
        (latency.p90, latency.p90_interval),
        (latency.p99, latency.p99_interval),
        (latency.p99_9, latency.p99_9_interval),
        (latency.mean, latency.mean_interval),
    ]


def _cells(latency: Latency | None, unit: TimeUnit) -> list[Cell]:
    if latency is None:
        return [Cell(NO_ANSWER)] + [Cell(NOTHING)] * len(PERCENTILES)
    form = unit.form
    return [Cell(FEW) if value is None else Cell(form(value), interval(ends, form)) for value, ends in _pairs(latency)]
