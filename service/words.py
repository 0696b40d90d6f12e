"""How a value that was sent is called in an error: by its kind, or as itself, but never at length."""

from __future__ import annotations

import orjson

KINDS = {
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
    bytes: "a file",
    type(None): "null",
}
LONGEST = 60


def shown(value: object) -> str:
    """As JSON, shortened; a list, an object, a file or a huge number by its kind alone."""
    if isinstance(value, list | dict | bytes) or (isinstance(value, int) and value.bit_length() > 63):
        return KINDS[type(value)]
    return short(orjson.dumps(value).decode())


def short(text: str) -> str:
    """A text of a client, shortened."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
