"""Markup that is safe by construction: whatever is not markup already is escaped. It knows HTML and SVG, no reports."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from html import escape

VOID = {"img", "meta"}
# Control characters, a terminal's escape among them; what turns writing round; what UTF-8 or XML cannot hold.
UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


class Markup(str):
    """Text that is markup, and so is not escaped again."""

    __slots__ = ()


def clean(text: str) -> str:
    """A stranger's text on one line, without characters that do something instead of being seen."""
    return " ".join(UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text).split())


def tag(name: str, attributes: Mapping[str, object] | None = None, *children: str) -> Markup:
    """An element. An attribute of None is left out; children that are not markup are escaped."""
    given = "".join(f' {key}="{_value(value)}"' for key, value in (attributes or {}).items() if value is not None)
    if name in VOID:
        return Markup(f"<{name}{given}/>")
    return Markup(f"<{name}{given}>{join(children)}</{name}>")


def join(children: Iterable[str], between: str = "") -> Markup:
    """Several pieces of markup as one; what is not markup is escaped."""
    return Markup(between.join(child if isinstance(child, Markup) else escape(_seen(child)) for child in children))


def _value(value: object) -> str:
    """Coordinates to a hundredth, which is less than a pixel."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else escape(_seen(str(value)))


def _seen(text: str) -> str:
    return UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)
