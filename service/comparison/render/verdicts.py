"""The first section: the verdict, the few numbers that decide, the models, and what weakens the figures."""

from __future__ import annotations

from collections.abc import Iterator

from service.comparison.render.blocks import (
    Block,
    Cell,
    Fact,
    Facts,
    Figure,
    Items,
    Section,
    Table,
    Text,
    model_cell,
    pair_cell,
)
from service.comparison.render.caveats import caveats
from service.comparison.render.figures import differences
from service.comparison.render.numbers import NOTHING, interval, size, times, whole
from service.comparison.render.sentences import difference, result, speed, unjudged
from service.comparison.render.view import View
from service.comparison.schema.part import Estimate
from service.comparison.schema.report import ComparedModel, Pair

TOLD = 3
"""Pairs that are told in sentences and big numbers; of more there are tables."""


def verdict_section(view: View) -> Section:
    """What a person wants to know first."""
    blocks: list[Block] = [*_sentences(view)]
    blocks += [_facts(view, pair) for pair in view.report.pairs[:TOLD]]
    if view.labelled and view.report.pairs:
        blocks.append(Figure(differences(view)))
    doubts = caveats(view)
    if doubts:
        blocks += [Text("Before you rely on it:", "doubts"), Items(doubts, "doubts")]
    return Section("verdict", "Verdict", [*blocks, _models(view), _pairs(view)])


def _sentences(view: View) -> Iterator[Text]:
    for pair in view.report.pairs:
        if pair.verdict:
            kind = pair.verdict.result.replace("not shown", "open")
            yield Text(pair.verdict.text, f"verdict {kind}")
    for pair in view.report.pairs[:TOLD]:
        said = [] if pair.verdict else [difference(view, pair)]
        yield Text(" ".join([speed(view, pair), *said]))
    for gain in view.report.cascades:
        yield Text(gain.text)
    if view.report.pairs and not any(pair.verdict for pair in view.report.pairs):
        yield Text(unjudged(view, view.report.pairs[0]))


def _facts(view: View, pair: Pair) -> Facts:
    places = view.names.pair(pair)
    size_ = view.report.models[0].batch.size
    facts = [
        _ratio(pair.speed_up, "speed-up, one row at a time"),
        _ratio(pair.batch_speed_up, f"speed-up, {whole(size_)} rows at a time"),
    ]
    if pair.offline_speed_up:
        facts.append(_ratio(pair.offline_speed_up, "throughput, each at its best batch"))
    if pair.accuracy_difference:
        facts.append(_points(view, pair.accuracy_difference, "points of accuracy"))
    facts.append(Fact(view.shares.share(pair.agreement), "", f"same label, of {whole(view.report.data.examples)}"))
    facts += _smaller(*(view.report.models[place] for place in places))
    return Facts(tuple(model_cell(place, view.names.label(place)) for place in places), facts)


def _ratio(estimate: Estimate, name: str) -> Fact:
    return Fact(times(estimate.value), f"95 % {interval(estimate.interval, times)}", name)


def _points(view: View, estimate: Estimate, name: str) -> Fact:
    return Fact(view.shares.points(estimate.value), f"95 % {interval(estimate.interval, view.shares.points)}", name)


def _smaller(a: ComparedModel, b: ComparedModel) -> list[Fact]:
    if not a.bytes or not b.bytes:
        return []
    ratio, word = (b.bytes / a.bytes, "smaller") if a.bytes <= b.bytes else (a.bytes / b.bytes, "larger")
    return [Fact(times(ratio), f"{size(a.bytes)} and {size(b.bytes)}", f"{word} on disk")]


def _models(view: View) -> Table:
    rows = [_model(place, view) for place in range(len(view.report.models))]
    columns = ("model", "role", "parameters", "MACs", "on disk", "threads", "provider")
    cascades = any(model.cascade for model in view.report.models)
    note = "MACs of a cascade: what a row is expected to take at the share that it passes on." if cascades else ""
    return Table("The models", columns, rows, note, left=2)


def _model(place: int, view: View) -> tuple[Cell, ...]:
    model = view.report.models[place]
    counts = (model.parameters, model.multiply_accumulates)
    return (
        model_cell(place, view.names.label(place)),
        Cell(model.role),
        *(Cell(NOTHING if count is None else whole(count)) for count in counts),
        Cell(NOTHING if model.bytes is None else size(model.bytes)),
        Cell(NOTHING if model.threads is None else whole(model.threads)),
        Cell((model.provider or NOTHING).removesuffix("ExecutionProvider")),
    )


def _pairs(view: View) -> Table:
    columns = ["pair", "one row", f"{whole(view.report.models[0].batch.size)} rows", "same label"]
    if view.labelled:
        columns += ["accuracy, points", "verdict"]
    rows = [_pair(view, pair) for pair in view.report.pairs]
    return Table("Pair by pair: how many times as fast, how alike", columns, rows)


def _pair(view: View, pair: Pair) -> tuple[Cell, ...]:
    ratios = (pair.speed_up, pair.batch_speed_up)
    cells = [
        pair_cell(view.names.pair(pair)),
        *(Cell(times(ratio.value), interval(ratio.interval, times)) for ratio in ratios),
        Cell(view.shares.share(pair.agreement)),
    ]
    if view.labelled:
        cells += [points_cell(view, pair.accuracy_difference), Cell(result(pair) or NOTHING)]
    return tuple(cells)


def points_cell(view: View, estimate: Estimate | None) -> Cell:
    """A difference in accuracy with its interval."""
    if estimate is None:
        return Cell(NOTHING)
    return Cell(view.shares.points(estimate.value), interval(estimate.interval, view.shares.points))
