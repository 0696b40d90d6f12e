"""service/errors.py: the tree in its docstring is the tree in its code."""

from __future__ import annotations

import re

from service import errors


def test_the_docstring_draws_every_error_with_its_status():
    """The drawing names each class, its status, and its parent by indentation."""
    drawn = re.findall(r"^ {4}([│ ├└─]*)(\w+Error)(?: (\d+))?", errors.__doc__, flags=re.M)
    classes = {value for value in vars(errors).values() if isinstance(value, type)}
    assert {name for _, name, _ in drawn} == {error.__name__ for error in classes}
    parents = ["Exception"]
    for stem, name, status in drawn:
        error, depth = getattr(errors, name), len(stem) // 4
        parents[depth + 1 :] = [name]
        assert error.__base__.__name__ == parents[depth], name
        assert error.status == int(status or 500), name


def test_busy_says_when_to_come_back():
    """One second, unless something else is known."""
    assert (errors.BusyError("loading").retry_after_s, errors.BusyError("measuring", 30).retry_after_s) == (1, 30)
