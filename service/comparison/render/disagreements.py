"""The section on single examples to which two models give different labels: pictures, and both distributions."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import nlargest

from service.comparison.render.blocks import Block, Cell, Figure, Section, Table, Text
from service.comparison.render.figures import versus
from service.comparison.render.markup import Markup, clean, join, tag
from service.comparison.render.numbers import NOTHING, probability, whole
from service.comparison.render.plots.series import chip, look
from service.comparison.render.view import View
from service.comparison.schema.quality import Disagreement
from service.comparison.schema.report import Pair

BARS = 3
FIRST = 12
"""Shown at once; the others when asked."""

IN_TEXT = 8
PICTURE = "data:image/png;base64,"
"""Anything else is not a picture of ours, and is not shown."""


def disagreements_section(view: View) -> Section:
    """Pair by pair."""
    blocks = [block for pair in view.report.pairs for block in _pair(view, pair)]
    return Section("disagreements", "Where they disagree", blocks)


def _pair(view: View, pair: Pair) -> list[Block]:
    a, b = view.names.labels(pair)
    examples = whole(view.report.data.examples)
    if not pair.disagreed:
        return [Text(f"{a} and {b} give the same label to all {examples} examples.")]
    said = Text(f"{a} and {b} give different labels to {whole(pair.disagreed)} of {examples} examples.")
    first = pair is view.report.pairs[0]
    return (
        [said, Figure(_cards(view, pair, FIRST if first else 0), _table(view, pair))] if pair.disagreements else [said]
    )


def _table(view: View, pair: Pair) -> Table:
    names = versus(view, pair).split(" vs ")
    rows = [
        (
            Cell(whole(each.index)),
            Cell(clean(each.label) if each.label is not None else NOTHING),
            *(Cell(_says(view, p)) for p in (each.a, each.b)),
        )
        for each in pair.disagreements[:IN_TEXT]
    ]
    more = pair.disagreed - len(rows)
    note = f"{whole(more)} more are not listed here." if more else ""
    columns = ("example", "right", *(f"{name} says" for name in names))
    return Table(f"{versus(view, pair)}: some of them", columns, rows, note, left=4)


def _says(view: View, p: Sequence[float]) -> str:
    best = max(range(len(p)), key=p.__getitem__)
    return f"{clean(view.report.data.classes[best])} ({probability(p[best])})"


def _cards(view: View, pair: Pair, shown: int) -> Markup:
    places = view.names.pair(pair)
    cards = [_card(view, places, each) for each in pair.disagreements]
    parts = [tag("div", {"class": "disagreements"}, *cards[:shown])] if shown else []
    if cards[shown:]:
        title = f"{len(cards[shown:])} {'more' if shown else 'of them'}"
        rest = tag("div", {"class": "disagreements"}, *cards[shown:])
        parts.append(tag("details", None, tag("summary", None, title), rest))
    return join(parts)


def _card(view: View, places: tuple[int, int], each: Disagreement) -> Markup:
    words = f"Example {whole(each.index)}" + ("" if each.label is None else f", in truth {clean(each.label)}")
    picture = []
    if each.image and each.image.startswith(PICTURE):
        picture = [tag("img", {"src": each.image, "alt": words, "loading": "lazy"})]
    bars = (_bars(view, place, p, each.label) for place, p in zip(places, (each.a, each.b), strict=True))
    return tag("article", {"class": "disagreement"}, *picture, tag("h4", None, words), *bars)


def _bars(view: View, place: int, p: Sequence[float], label: str | None) -> Markup:
    """The likeliest classes of one model."""
    best = nlargest(BARS, range(len(p)), key=p.__getitem__)
    classes = view.report.data.classes
    rows = (_bar(clean(classes[index]), p[index], place, classes[index] == label) for index in best)
    caption = tag("caption", None, chip(place), " ", tag("span", None, view.names.label(place)))
    return tag("table", {"class": "top"}, caption, tag("tbody", None, *rows))


def _bar(name: str, p: float, place: int, right: bool) -> Markup:
    box = {"x": 0, "y": 0, "width": 100 * p, "height": 10, "class": f"bar {look(place)}"}
    frame = {"viewBox": "0 0 100 10", "preserveAspectRatio": "none", "aria-hidden": "true"}
    drawn = tag("svg", frame, tag("rect", {**box, "width": 100, "class": "track"}), tag("rect", box))
    mark = [tag("span", {"class": "right"}, " ✓"), tag("span", {"class": "unseen"}, " the right one")] if right else []
    return tag(
        "tr",
        None,
        tag("th", {"scope": "row"}, name, *mark),
        tag("td", {"class": "track"}, drawn),
        tag("td", None, probability(p)),
    )
