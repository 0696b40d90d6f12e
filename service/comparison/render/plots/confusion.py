"""A confusion matrix as a table: its diagonal, and darker the more examples were taken for something else."""

from __future__ import annotations

import math
from collections.abc import Sequence

from service.comparison.render.markup import Markup, tag
from service.comparison.render.numbers import whole

SHADES = 5
"""Of confusions; a shade more is about twice as many, at most."""


def confusion_table(caption: Markup, classes: Sequence[str], counts: Sequence[Sequence[int]]) -> Markup:
    """Rows are right labels, columns answers; a cell's title says it in words."""
    off_diagonal = [count for row, line in enumerate(counts) for column, count in enumerate(line) if row != column]
    most = max(off_diagonal, default=0)
    head = tag("tr", None, tag("th", {"scope": "col"}, "right"), *(_head(name) for name in classes))
    rows = (_row(row, classes, line, most) for row, line in enumerate(counts))
    kind = "confusion" if len(classes) <= 12 else "confusion many"
    table = tag(
        "table", {"class": kind}, tag("caption", None, caption), tag("thead", None, head), tag("tbody", None, *rows)
    )
    named = {"class": "scroll", "tabindex": 0, "role": "region", "aria-label": "Confusion matrix"}
    return tag("div", named, table)


def _head(name: str) -> Markup:
    return tag("th", {"scope": "col", "title": f"answered {name}"}, name)


def _row(row: int, classes: Sequence[str], counts: Sequence[int], most: int) -> Markup:
    name = tag("th", {"scope": "row", "title": f"in truth {classes[row]}"}, classes[row])
    return tag("tr", None, name, *(_cell(row, column, count, classes, most) for column, count in enumerate(counts)))


def _cell(row: int, column: int, count: int, classes: Sequence[str], most: int) -> Markup:
    if row == column:
        return tag("td", {"class": "hit"}, whole(count))
    if not count:
        return tag("td")
    title = f"{classes[row]} taken for {classes[column]}: {whole(count)}"
    return tag("td", {"class": f"miss{shade(count, most)}", "title": title}, whole(count))


def shade(count: int, most: int) -> int:
    """1 for one example, 5 for the most frequent confusion, by logarithms in between."""
    if count >= most:
        return SHADES
    return 1 + round((SHADES - 1) * math.log(count) / math.log(most))
