"""The sections on single classes: where each model errs, where a pair differs, what is taken for what."""

from __future__ import annotations

from collections.abc import Sequence

from service.comparison.render.blocks import Block, Cell, Figure, Fold, Section, Table, pair_cell
from service.comparison.render.figures import class_differences, confusions, grid
from service.comparison.render.markup import clean
from service.comparison.render.names import letter
from service.comparison.render.numbers import NOTHING, interval, whole
from service.comparison.render.verdicts import TOLD, points_cell
from service.comparison.render.view import View
from service.comparison.schema.quality import ClassQuality, PairOnClass
from service.comparison.schema.report import Pair

MOST = 20
"""Classes in a table, those with the most errors."""

MOST_IN_PLOT = 8
MOST_CONFUSIONS = 15
FEW = 12
"""Classes of a confusion matrix that is shown at once."""


def classes_section(view: View) -> Section | None:
    """Only classes in which some model errs; None without labels."""
    found = [model.per_class for model in view.report.models]
    if not all(found):
        return None
    erring = _erring(view)
    blocks: list[Block] = [_recall(view, erring[:MOST], len(erring))]
    for pair in view.report.pairs[:TOLD]:
        table = _pair_table(view, pair)
        if table.rows:
            shown = _worst(pair)[:MOST_IN_PLOT]
            blocks.append(Figure(grid(class_differences(view, pair, shown)), table))
    details = [_details(view, place, erring[:MOST]) for place in range(len(view.report.models))]
    return Section("classes", "Class by class", [*blocks, Fold("Every measure of these classes", details)])


def _per_class(view: View, place: int) -> Sequence[ClassQuality]:
    return view.report.models[place].per_class or []


def _errors(quality: ClassQuality) -> int:
    return 0 if quality.accuracy is None else round((1 - quality.accuracy) * quality.examples)


def _erring(view: View) -> list[int]:
    """The places of the classes in which some model errs, those with the most errors first."""
    models = range(len(view.report.models))
    most = [max(_errors(_per_class(view, m)[k]) for m in models) for k in range(len(_per_class(view, 0)))]
    return sorted((k for k, errors in enumerate(most) if errors), key=lambda k: -most[k])


def _recall(view: View, shown: Sequence[int], erring: int) -> Table:
    models = range(len(view.report.models))
    rows = []
    for k in shown:
        first = _per_class(view, 0)[k]
        cells = (_share(_per_class(view, m)[k]) for m in models)
        rows.append((Cell(clean(first.label)), Cell(whole(first.examples)), *cells))
    total = len(_per_class(view, 0))
    note = f"{whole(erring)} of {whole(total)} classes have errors"
    note += f"; {whole(erring - len(shown))} of them are only in the JSON." if erring > len(shown) else "."
    columns = ("class", "examples", *(letter(m) for m in models))
    return Table("Right answers to the examples of each class, %", columns, rows, note)


def _share(quality: ClassQuality) -> Cell:
    if quality.accuracy is None:
        return Cell(NOTHING)
    return Cell(f"{100 * quality.accuracy:.1f}", interval(quality.accuracy_interval, lambda end: f"{100 * end:.0f}"))


def _worst(pair: Pair) -> list[PairOnClass]:
    """The classes in which one alone is right somewhere; first those in which the pair's first loses most."""
    differing = [each for each in pair.per_class or [] if each.table.only_a + each.table.only_b]
    return sorted((each for each in differing if each.accuracy_difference), key=lambda each: _value(each))


def _value(each: PairOnClass) -> float:
    return each.accuracy_difference.value if each.accuracy_difference else 0.0


def _pair_table(view: View, pair: Pair) -> Table:
    rows = [
        (
            Cell(clean(each.label)),
            Cell(whole(each.examples)),
            points_cell(view, each.accuracy_difference),
            Cell(whole(each.table.only_a)),
            Cell(whole(each.table.only_b)),
            Cell(NOTHING if each.agreement is None else view.shares.share(each.agreement)),
            Cell(NOTHING if each.kl is None else f"{each.kl:.3f}"),
        )
        for each in _worst(pair)[:MOST_IN_PLOT]
    ]
    columns = ("class", "examples", "accuracy, points", "only 1st", "only 2nd", "same label", "KL(2nd ‖ 1st)")
    return Table(f"{pair_cell(view.names.pair(pair)).letters}: the classes in which they differ", columns, rows)


def _details(view: View, place: int, shown: Sequence[int]) -> Table:
    rows = []
    for k in shown:
        quality = _per_class(view, place)[k]
        counts = (whole(quality.examples), whole(quality.answered))
        measures = (NOTHING if v is None else f"{v:.3f}" for v in (quality.nll, quality.brier, quality.ece))
        cells = (*map(Cell, counts), _share(quality), *map(Cell, measures))
        rows.append((Cell(clean(quality.label)), *cells))
    columns = ("class", "examples", "answered", "right, %", "NLL", "Brier", "ECE")
    return Table(f"{letter(place)} {view.names.label(place)}", columns, rows)


def confusions_section(view: View) -> Section | None:
    """The most frequent confusions, and the matrices where there are few enough classes."""
    counts: dict[tuple[str, str], dict[int, int]] = {}
    for place, model in enumerate(view.report.models):
        for cell in model.confused or []:
            counts.setdefault((cell.label, cell.answer), {})[place] = cell.examples
    if not counts:
        return None
    common = sorted(counts, key=lambda pair: -max(counts[pair].values()))[:MOST_CONFUSIONS]
    rows = [_confusion(view, pair, counts[pair]) for pair in common]
    columns = ("right", "taken for", *(letter(m) for m in range(len(view.report.models))))
    blocks: list[Block] = [Table("The most frequent confusions, in examples", columns, rows, left=2)]
    if any(model.confusion for model in view.report.models):
        matrices = Figure(confusions(view))
        small = len(view.report.data.classes) <= FEW
        blocks.append(matrices if small else Fold("Confusion matrices", [matrices]))
    return Section("confusions", "Confusions", blocks)


def _confusion(view: View, pair: tuple[str, str], counts: dict[int, int]) -> tuple[Cell, ...]:
    """Exact where there is a matrix; else what is not among a model's most frequent confusions is not known."""
    label, answer = pair
    cells = []
    for place, model in enumerate(view.report.models):
        classes = view.report.data.classes
        count = counts.get(place)
        if model.confusion:
            count = model.confusion[classes.index(label)][classes.index(answer)]
        cells.append(Cell(NOTHING if count is None else whole(count)))
    return (Cell(clean(label)), Cell(clean(answer)), *cells)
