"""The sections on speed: each scenario in its own table, what goes through HTTP apart from the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from service.comparison.render.blocks import Block, Cell, Figure, Section, Table, model_cell, pair_cell
from service.comparison.render.figures import grid, latencies, ratios, tradeoff, versus
from service.comparison.render.latency_table import latency_table
from service.comparison.render.markup import Markup
from service.comparison.render.numbers import NOTHING, figures, interval, times, whole
from service.comparison.render.verdicts import TOLD
from service.comparison.render.view import View
from service.comparison.schema.part import Estimate
from service.comparison.schema.report import Pair
from service.comparison.schema.speed import Offline, Server

NEEDS = "p90 is told from 64 calls on, p99 from 662, p99.9 from 6,636."
PACE = (
    "Below 0.95 answers for each arrival the queue grew: as fast as the least latency did, with what failed taken off."
)


def speed_section(view: View) -> Section:
    """What was measured in this process, without a network."""
    blocks: list[Block] = [_single(view), Figure(_plots(view)), _batch(view)]
    blocks += _offline(view)
    servers = {place: model.server for place, model in enumerate(view.report.models) if model.server}
    blocks += server_blocks(view, servers, "Server: single rows that arrive at random")
    blocks += [*_alternating(view), *_ratios(view)]
    return Section("speed", "Speed", blocks)


def rate_cell(throughput: Estimate) -> Cell:
    """Rows per second."""
    return Cell(figures(throughput.value), interval(throughput.interval, figures))


def _single(view: View) -> Table:
    found = {place: model.latency_ms for place, model in enumerate(view.report.models)}
    calls = {place: whole(model.calls) for place, model in enumerate(view.report.models)}
    note = (
        "Steady state, models in turn in blocks of random order. "
        f"In brackets 95 % intervals by block bootstrap; {NEEDS}"
    )
    return latency_table(view, "Single stream: one row at a time", found, ("calls", calls), note)


def _batch(view: View) -> Table:
    found = {place: model.batch.latency_ms for place, model in enumerate(view.report.models)}
    rates = {place: figures(model.throughput) for place, model in enumerate(view.report.models)}
    title = f"Batches: {whole(view.report.models[0].batch.size)} rows at a time"
    return latency_table(view, title, found, ("rows/s", rates))


def _offline(view: View) -> Iterator[Table]:
    found = {place: model.offline for place, model in enumerate(view.report.models) if model.offline}
    if not found:
        return
    sizes = sorted({tried.size for offline in found.values() for tried in offline.tried})
    rows = [
        (model_cell(place, view.names.label(place)), Cell(whole(offline.batch)), rate_cell(offline.throughput))
        for place, offline in found.items()
    ]
    yield Table("Offline: all rows at hand", ("model", "best batch", "rows/s at the best batch"), rows)
    tried = [(model_cell(place, view.names.label(place)), *_tried(offline, sizes)) for place, offline in found.items()]
    title = "Offline: rows/s at the batch sizes that were tried, shortly"
    yield Table(title, ("model", *(f"at {size}" for size in sizes)), tried)


def _tried(offline: Offline, sizes: Sequence[int]) -> Iterator[Cell]:
    rates = {tried.size: figures(tried.throughput) for tried in offline.tried}
    yield from (Cell(rates.get(size, NOTHING)) for size in sizes)


def server_blocks(view: View, servers: dict[int, Server], title: str) -> Iterator[Block]:
    """An open loop: a table and its distributions."""
    if not servers:
        return
    some = next(iter(servers.values()))
    found = {place: server.latency_ms for place, server in servers.items()}
    requests = {place: whole(server.requests) for place, server in servers.items()}
    note = (
        f"Poisson arrivals at {figures(some.rate)} requests per second, the same for every model, for "
        f"{figures(some.seconds)} s. Latency counts from the moment at which a request was to be sent."
    )
    yield latency_table(view, title, found, ("requests", requests), note)
    columns = ("model", "arrivals/s", "failures", "rows a run", "answers an arrival", "kept up")
    rows = [_kept_up(view, *each) for each in servers.items()]
    yield Table("Whether the server kept up", columns, rows, PACE)
    yield Figure(grid(latencies(view, title, found)))


def _kept_up(view: View, place: int, server: Server) -> tuple[Cell, ...]:
    return (
        model_cell(place, view.names.label(place)),
        Cell(figures(server.rate)),
        Cell(whole(server.failures)),
        Cell(NOTHING if server.rows_per_run is None else figures(server.rows_per_run)),
        Cell(NOTHING if server.pace is None else f"{server.pace:.2f}"),
        Cell("yes" if server.kept_up else "no"),
    )


def _alternating(view: View) -> Iterator[Table]:
    found = {place: model.alternating for place, model in enumerate(view.report.models) if model.alternating}
    if found:
        latencies_ = {place: alternating.latency_ms for place, alternating in found.items()}
        calls = {place: whole(alternating.calls) for place, alternating in found.items()}
        note = "The models take turns call by call, so each finds its weights evicted from the caches."
        yield latency_table(view, "Alternating", latencies_, ("calls", calls), note)


def _ratios(view: View) -> Iterator[Block]:
    size = whole(view.report.models[0].batch.size)
    named: list[tuple[str, Callable[[Pair], Estimate | None]]] = [
        ("one row", lambda pair: pair.speed_up),
        (f"{size} rows", lambda pair: pair.batch_speed_up),
        ("offline", lambda pair: pair.offline_speed_up),
        ("alternating", lambda pair: pair.alternating_speed_up),
    ]
    kept = [(name, get) for name, get in named if any(get(pair) for pair in view.report.pairs)]
    rows = [
        (pair_cell(view.names.pair(pair)), *(ratio_cell(get(pair)) for _, get in kept)) for pair in view.report.pairs
    ]
    title = "Speed-ups: how many times as fast the first is as the second"
    yield Table(title, ("pair", *(name for name, _ in kept)), rows)
    told = view.report.pairs[:TOLD]
    all_ = [(f"{versus(view, pair)}, {name}", get(pair)) for pair in told for name, get in kept]
    estimates = [(name, estimate) for name, estimate in all_ if estimate is not None]
    if estimates:
        yield Figure(grid(ratios(view, "Speed-ups with their 95 % intervals", estimates)))


def ratio_cell(estimate: Estimate | None) -> Cell:
    """A speed-up with its interval."""
    return Cell(NOTHING) if estimate is None else Cell(times(estimate.value), interval(estimate.interval, times))


def _plots(view: View) -> Markup:
    singles = {place: model.latency_ms for place, model in enumerate(view.report.models)}
    return grid(latencies(view, "Latency of one row at a time", singles), tradeoff(view))
