"""The section on the whole path of a request, kept apart: it is another thing than the time of the model."""

from __future__ import annotations

from service.comparison.render.blocks import Block, Cell, Figure, Items, Section, Table, Text, model_cell, pair_cell
from service.comparison.render.figures import grid, latencies
from service.comparison.render.latency_table import latency_table
from service.comparison.render.markup import clean
from service.comparison.render.numbers import NOTHING, whole
from service.comparison.render.speeds import rate_cell, ratio_cell, server_blocks
from service.comparison.render.view import View
from service.comparison.schema.speed import ThroughHttp

Found = dict[int, ThroughHttp]


def http_section(view: View) -> Section | None:
    """None where nothing was measured so."""
    found = {place: model.http for place, model in enumerate(view.report.models) if model.http}
    if not found:
        return None
    plot = latencies(view, "Latency through HTTP, one row at a time", {n: http.latency_ms for n, http in found.items()})
    servers = {place: http.server for place, http in found.items() if http.server}
    blocks: list[Block] = [
        Text(
            "The whole path of a request: HTTP, parsing, queue, model and answer. Not comparable with the tables above."
        ),
        Items([f"{view.names.label(n)}: {clean(http.url)}, rows sent as {http.encoding}" for n, http in found.items()]),
        _single(view, found),
        _throughput(view, found),
        *([_ratios(view)] if any(pair.http_speed_up for pair in view.report.pairs) else []),
        Figure(grid(plot)),
        *server_blocks(view, servers, "Server, through HTTP: single rows that arrive at random"),
    ]
    return Section("http", "Through HTTP", blocks)


def _single(view: View, found: Found) -> Table:
    times = {place: http.latency_ms for place, http in found.items()}
    calls = {place: whole(http.calls) for place, http in found.items()}
    note = "One request of one row after the other, on one connection."
    return latency_table(view, "One row at a time", times, ("calls", calls), note)


def _throughput(view: View, found: Found) -> Table:
    rows = [
        (
            model_cell(n, view.names.label(n)),
            Cell(whole(http.batch)),
            Cell(NOTHING) if http.throughput is None else rate_cell(http.throughput),
            Cell(whole(http.failures)),
        )
        for n, http in found.items()
    ]
    return Table("Throughput, one request after the other", ("model", "rows a request", "rows/s", "failures"), rows)


def _ratios(view: View) -> Table:
    rows = [(pair_cell(view.names.pair(pair)), ratio_cell(pair.http_speed_up)) for pair in view.report.pairs]
    return Table("How many times as fast through HTTP, one row at a time", ("pair", "one row"), rows)
