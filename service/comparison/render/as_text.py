"""A report as Markdown, laid out so that a terminal shows it as well: aligned tables, under 110 columns. No figures."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from textwrap import wrap

from service.comparison.render.blocks import Block, Cell, Code, Facts, Figure, Fold, Items, Section, Table, Terms, Text
from service.comparison.render.markup import clean
from service.comparison.render.story import about, sections, title
from service.comparison.render.view import view_of
from service.comparison.schema.report import Report

WIDEST = 108
NARROWEST = 12
"""Of a first column with names; where there is less room, their letters stand alone."""

LETTER = 5

SPECIAL = re.compile(r"[\\|`*<]|(?<=\])\(")
"""What would end a cell, become markup, or make a link or a picture."""


def markdown(report: Report) -> str:
    """The whole report."""
    view = view_of(report)
    parts = [f"# {_escaped(title(view))}", *_paragraph(about(view))]
    for section in sections(view):
        parts += _section(section)
    return "\n\n".join(parts) + "\n"


def _section(section: Section) -> Iterator[str]:
    yield f"## {section.title}"
    for block in section.blocks:
        yield from _block(block)


def _block(block: Block) -> Iterator[str]:
    match block:
        case Text():
            yield from _paragraph(f"**{block.text}**" if block.kind.startswith("verdict") else block.text, block.kind)
        case Items():
            yield "\n".join(_item(item) for item in block.items)
        case Terms():
            yield from [f"### {block.title}"] if block.title else []
            yield "\n".join(_item(f"{name}: {meaning}") for name, meaning in block.items)
        case Table():
            yield from _table(block)
        case Code():
            yield f"```{block.language}\n{block.text}\n```"
        case Figure():
            yield from _table(block.instead) if block.instead else ()
        case Facts() | Fold():  # the tables say the former, the page and the JSON the latter
            pass


def _paragraph(text: str, kind: str = "text") -> Iterator[str]:
    strong = kind.startswith("verdict")
    inner = _escaped(text.strip("*") if strong else text)
    yield "\n".join(wrap(f"**{inner}**" if strong else inner, WIDEST, break_long_words=False, break_on_hyphens=False))


def _item(text: str) -> str:
    lines = wrap(_escaped(text), WIDEST - 2, break_long_words=False, break_on_hyphens=False)
    return "- " + "\n  ".join(lines)


def _escaped(text: str) -> str:
    """A stranger's text, so that it neither leaves its cell nor becomes markup."""
    return SPECIAL.sub(r"\\\g<0>", clean(text))


def _table(table: Table) -> Iterator[str]:
    yield f"### {_escaped(table.title)}"
    if table.rows:
        yield from _grids(table)
    if table.note:
        yield from _paragraph(table.note)


def _grids(table: Table) -> Iterator[str]:
    """Intervals stand behind their values; below them where the table would be too wide; then names are shortened, then
    left to their letters; at last the table becomes two."""
    head = [_escaped(column) for column in table.columns]
    lines = [[_words(cell) for cell in row] for row in table.rows]
    if _width([head, *lines]) > WIDEST:
        lines = [line for row in table.rows for line in _two_lines(row)]
    room = WIDEST - _width([line[1:] for line in (head, *lines)]) - 3
    if room >= NARROWEST:
        lines = [[_shortened(line[0], room), *line[1:]] for line in lines]
    elif room >= LETTER and all(len(row[0].series) == 1 for row in table.rows):
        lines = [[line[0].partition(" ")[0], *line[1:]] for line in lines]
    if _width([head, *lines]) > WIDEST and len(head) > table.left + 1:
        yield from (grid for half in _halves(table) for grid in _grids(half))
    else:
        yield _aligned(head, lines, table.left)


def _halves(table: Table) -> Iterator[Table]:
    """The left half of the columns and the right one, each with the words at the left."""
    middle = (table.left + len(table.columns) + 1) // 2
    for part in (slice(table.left, middle), slice(middle, None)):
        rows = [(*row[: table.left], *row[part]) for row in table.rows]
        yield table._replace(columns=(*table.columns[: table.left], *table.columns[part]), rows=rows)


def _words(cell: Cell) -> str:
    return _escaped(" ".join(filter(None, (cell.letters, cell.text)))) + (f" {cell.below}" if cell.below else "")


def _two_lines(row: Sequence[Cell]) -> Iterator[list[str]]:
    yield [_words(cell._replace(below="")) for cell in row]
    if any(cell.below for cell in row):
        yield ["", *(cell.below for cell in row[1:])]


def _shortened(text: str, room: int) -> str:
    """Without what stands behind its letter: the names of a comparison mostly begin alike."""
    return text if _seen(text) <= room else f"{text[:2]}…{text[3 - room :]}"


def _seen(text: str) -> int:
    """Columns in a terminal."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) > 0 for character in text)


def _widths(lines: Iterable[Sequence[str]]) -> list[int]:
    return [max(3, *map(_seen, column)) for column in zip(*lines, strict=True)]


def _width(lines: Sequence[Sequence[str]]) -> int:
    widths = _widths(lines)
    return sum(widths) + 3 * len(widths) + 1


def _aligned(head: list[str], lines: list[list[str]], left: int) -> str:
    widths = _widths([head, *lines])
    rule = ["-" * width if place < left else "-" * (width - 1) + ":" for place, width in enumerate(widths)]
    return "\n".join(_line(line, widths, left) for line in (head, rule, *lines))


def _line(cells: Sequence[str], widths: Sequence[int], left: int) -> str:
    padded = []
    for place, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        space = " " * (width - _seen(cell))
        padded.append(cell + space if place < left else space + cell)
    return f"| {' | '.join(padded)} |"
