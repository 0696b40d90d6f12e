"""What a report is made of before it is laid out: sections of texts, lists, tables and figures.

Texts are plain: each layout escapes them in its own way. It knows no layout and no figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from service.comparison.render.markup import Markup
from service.comparison.render.names import letter


class Cell(NamedTuple):
    """A cell of a table: its text, what stands below it in small (an interval), and the models that it is about."""

    text: str
    below: str = ""
    series: tuple[int, ...] = ()

    @property
    def letters(self) -> str:
        """A, or A vs B."""
        return " vs ".join(letter(index) for index in self.series)


class Text(NamedTuple):
    """A paragraph."""

    text: str
    kind: str = "text"


class Items(NamedTuple):
    """A list of sentences."""

    items: Sequence[str]
    kind: str = "plain"


class Fact(NamedTuple):
    """A big number, its interval, and what it is."""

    value: str
    below: str
    name: str


class Facts(NamedTuple):
    """The few numbers that decide, of one pair."""

    models: Sequence[Cell]
    facts: Sequence[Fact]


class Table(NamedTuple):
    """A table of which the first `left` columns are words."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    left: int = 1


class Terms(NamedTuple):
    """Names and what they stand for."""

    title: str
    items: Sequence[tuple[str, str]]


class Code(NamedTuple):
    """A text to copy."""

    language: str
    text: str


class Figure(NamedTuple):
    """What only a page can show, and what a text shows instead."""

    markup: Markup
    instead: Table | None = None


class Fold(NamedTuple):
    """What a page shows when asked, and a text leaves out."""

    title: str
    blocks: Sequence[Text | Items | Terms | Table | Code | Figure]


Block = Text | Items | Facts | Table | Terms | Code | Figure | Fold


class Section(NamedTuple):
    """A part of a report under its heading; `name` is its anchor."""

    name: str
    title: str
    blocks: Sequence[Block]


def model_cell(index: int, label: str) -> Cell:
    """The first cell of a model's row."""
    return Cell(label, series=(index,))


def pair_cell(places: tuple[int, int]) -> Cell:
    """The first cell of a pair's row."""
    return Cell("", series=places)
