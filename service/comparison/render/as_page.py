"""A report as a page of its own: it needs no network and no script, and what strangers wrote stays text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from service.comparison.render.blocks import (
    Block,
    Cell,
    Code,
    Fact,
    Facts,
    Figure,
    Fold,
    Items,
    Section,
    Table,
    Terms,
    Text,
)
from service.comparison.render.markup import Markup, join, tag
from service.comparison.render.plots.series import chip
from service.comparison.render.story import about, sections, title
from service.comparison.render.view import view_of
from service.comparison.schema.report import Report

STYLE = Path(__file__).parents[2] / "page" / "report.css"
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def html(report: Report) -> str:
    """A whole page, to be kept as one file."""
    name = f"{title(view_of(report))}: a comparison by Stillroom"
    head = tag(
        "head",
        None,
        tag("meta", {"charset": "utf-8"}),
        tag("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        tag("meta", {"name": "color-scheme", "content": "light dark"}),
        tag("meta", {"http-equiv": "Content-Security-Policy", "content": POLICY}),
        tag("title", None, name),
        tag("style", None, Markup(STYLE.read_text(encoding="utf-8"))),
    )
    body = tag("body", {"class": "report-page"}, tag("main", {"class": "report"}, Markup(html_body(report))))
    return f"<!doctype html>\n{tag('html', {'lang': 'en'}, head, body)}\n"


def html_body(report: Report) -> str:
    """What stands inside <main>: classes for report.css, no styles and no script of its own."""
    view = view_of(report)
    all_ = sections(view)
    header = tag("header", None, tag("h2", None, title(view)), tag("p", {"class": "about"}, about(view)))
    parts = (tag("a", {"href": f"#report-{section.name}"}, section.title) for section in all_)
    nav = tag("nav", {"aria-label": "Parts of the report"}, join(parts, " "))
    return join([header, nav, *map(_section, all_)], "\n")


def _section(section: Section) -> Markup:
    name = f"report-{section.name}"
    heading = tag("h3", {"id": f"{name}-title"}, section.title)
    return tag("section", {"id": name, "aria-labelledby": f"{name}-title"}, heading, *map(_block, section.blocks))


def _block(block: Block) -> Markup:
    match block:
        case Text():
            return tag("p", {"class": block.kind}, _kept(block.text))
        case Items():
            return tag("ul", {"class": block.kind}, *(tag("li", None, _kept(item)) for item in block.items))
        case Facts():
            return _facts(block)
        case Table():
            return _table(block)
        case Terms():
            return _terms(block)
        case Code():
            return tag("pre", {"tabindex": 0}, tag("code", None, block.text))
        case Figure():
            return block.markup
        case Fold():
            return tag("details", None, tag("summary", None, block.title), *map(_block, block.blocks))


def _kept(text: str) -> str:
    """A number and its unit stay on one line."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def _facts(block: Facts) -> Markup:
    heading = tag("h4", None, join([join(_cell(model)) for model in block.models], " vs "))
    return tag("div", {"class": "deciding"}, heading, tag("dl", None, *map(_fact, block.facts)))


def _fact(fact: Fact) -> Markup:
    below = [tag("small", None, fact.below)] if fact.below else []
    return tag("div", None, tag("dt", None, fact.name), tag("dd", None, tag("strong", None, fact.value), *below))


def _terms(block: Terms) -> Markup:
    heading = [tag("h4", None, block.title)] if block.title else []
    pairs = [tag(name, None, text) for item in block.items for name, text in zip(("dt", "dd"), item, strict=True)]
    return tag("div", {"class": "terms"}, *heading, tag("dl", None, *pairs))


def _table(table: Table) -> Markup:
    head = tag(
        "tr", None, *(tag("th", {"scope": "col", "class": _side(n, table)}, c) for n, c in enumerate(table.columns))
    )
    rows = (_row(row, table) for row in table.rows)
    body = tag("table", None, tag("caption", None, table.title), tag("thead", None, head), tag("tbody", None, *rows))
    frame = tag("div", {"class": "scroll", "tabindex": 0, "role": "region", "aria-label": table.title}, body)
    return join([frame, *([tag("p", {"class": "note"}, _kept(table.note))] if table.note else [])])


def _row(row: Sequence[Cell], table: Table) -> Markup:
    first, *others = row
    head = tag("th", {"scope": "row", "class": "words"}, *_cell(first))
    return tag("tr", None, head, *(tag("td", {"class": _side(n, table)}, *_cell(c)) for n, c in enumerate(others, 1)))


def _side(place: int, table: Table) -> str | None:
    return "words" if place < table.left else None


def _cell(cell: Cell) -> list[str]:
    below = [tag("small", None, cell.below)] if cell.below else []
    return [*_chips(cell.series), *([" "] if cell.series and cell.text else []), cell.text, *below]


def _chips(series: Sequence[int]) -> list[Markup]:
    return [join(map(chip, series), " vs ")] if series else []
