"""The section on quality: how right, how calibrated, how alike; without right labels only the last."""

from __future__ import annotations

from collections.abc import Iterator

from service.comparison.render.blocks import Block, Cell, Figure, Section, Table, model_cell, pair_cell
from service.comparison.render.figures import reliabilities
from service.comparison.render.numbers import NOTHING, figures, interval, p_value, whole
from service.comparison.render.verdicts import points_cell
from service.comparison.render.view import View
from service.comparison.schema.report import ComparedModel, Pair


def quality_section(view: View) -> Section:
    """Model by model, then pair by pair."""
    blocks: list[Block] = []
    if view.labelled:
        blocks += [_right(view), Figure(reliabilities(view))]
    blocks += [_alike(view)]
    if view.labelled:
        blocks += [_paired(view)]
    return Section("quality", "Quality" if view.labelled else "Agreement", [*blocks, _steady(view)])


def _right(view: View) -> Table:
    rows = []
    for place, model in enumerate(view.report.models):
        accuracy = NOTHING if model.accuracy is None else view.shares.share(model.accuracy)
        ends = interval(model.accuracy_interval, view.shares.percent)
        measures = (Cell(_three(value)) for value in (model.nll, model.brier, model.ece))
        rows.append((model_cell(place, view.names.label(place)), Cell(accuracy, ends), *measures))
    bins = view.report.settings.ece_bins
    note = (
        f"On {whole(view.report.data.examples)} examples. In brackets the 95 % Wilson interval; NLL in nats; "
        f"Brier score from 0 to 2; ECE over {bins} bins of equal width: of the last three, less is better."
    )
    return Table("How right and how calibrated", ("model", "accuracy", "NLL", "Brier", "ECE"), rows, note)


def _alike(view: View) -> Table:
    rows = [
        (
            pair_cell(view.names.pair(pair)),
            Cell(view.shares.share(pair.agreement)),
            Cell(whole(pair.disagreed)),
            Cell(_three(pair.kl)),
            Cell(_three(pair.kl_reversed)),
        )
        for pair in view.report.pairs
    ]
    columns = ("pair", "same label", "different labels", "KL(2nd ‖ 1st)", "KL(1st ‖ 2nd)")
    return Table("How alike", columns, rows, "KL divergences are means over the examples, in nats.")


def _paired(view: View) -> Table:
    columns = ("pair", "accuracy, points", "both right", "only 1st", "only 2nd", "neither", "McNemar p")
    note = (
        "Accuracy of the first minus accuracy of the second, paired, with its 95 % interval (Bonett and Price 2012). "
        "McNemar's test is exact and two-sided; a large p does not show that the two are equally good: a margin does."
    )
    rows = [_two_by_two(view, pair) for pair in view.report.pairs]
    return Table("The same examples, answered twice", columns, rows, note)


def _two_by_two(view: View, pair: Pair) -> tuple[Cell, ...]:
    first = (pair_cell(view.names.pair(pair)), points_cell(view, pair.accuracy_difference))
    if pair.table is None:
        return (*first, *[Cell(NOTHING)] * 5)
    counts = (pair.table.both_right, pair.table.only_a, pair.table.only_b, pair.table.neither)
    test = Cell(p_value(pair.mcnemar.p)) if pair.mcnemar else Cell(NOTHING)
    return (*first, *(Cell(whole(count)) for count in counts), test)


def _steady(view: View) -> Table:
    """Whether answers depend on what travels with them."""
    rows = [tuple(_row(view, place, model)) for place, model in enumerate(view.report.models)]
    columns = ("model", "examples", "another label", "batch sizes")
    note = "An answer should not depend on the rows that travel with it."
    return Table("Whether a label depends on the size of its batch", columns, rows, note)


def _row(view: View, place: int, model: ComparedModel) -> Iterator[Cell]:
    flips = model.label_flips
    yield model_cell(place, view.names.label(place))
    yield Cell(whole(flips.examples))
    yield Cell(whole(flips.flips))
    yield Cell(f"{flips.sizes[0]} and {flips.sizes[1]}")


def _three(value: float | None) -> str:
    """Three decimals, as measures of calibration are written; more where these would all be zero."""
    if value is None:
        return NOTHING
    return f"{value:.3f}" if value == 0 or value >= 0.001 else figures(value, 2)
