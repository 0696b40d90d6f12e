"""The common request, read fast: flat rows of numbers go from JSON to an array without a Python object each.

It takes what is plainly right and leaves everything else to the slow and exact reading, which has the errors' words.
It knows JSON, not models or what the numbers mean.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import simdjson
from numpy.typing import NDArray

LARGEST = float(np.finfo(np.float32).max)
SMALL = 2**13
"""Bytes."""


class Plain(NamedTuple):
    """The rows float32 [N, size], all finite, and the request's other fields."""

    rows: NDArray[np.float32]
    fields: dict[str, Any]


class Reader:
    """Reads one body after the other, in one thread."""

    def __init__(self) -> None:
        self._parser = simdjson.Parser()

    def read(self, raw: bytes) -> Plain | None:
        """A request with `inputs` of flat rows, all of one length; None where it is anything else."""
        if not raw.startswith(b"{"):  # spaces are rare, and a byte order mark is no JSON
            return None
        try:
            return _plain(self._parser.parse(raw), raw)
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError):  # the last for integers beyond 64 bits
            # The parser refuses to go on as long as a part of what it read lives, be it in a traceback.
            self._parser = simdjson.Parser()
            return None


def _plain(request: Any, raw: bytes) -> Plain | None:
    keys = list(request.keys())
    inputs = request["inputs"]
    lengths = {len(row) for row in inputs}
    # Every bracket is that of the list or of one of its rows: so the rows are flat, and no other field is a list.
    is_flat = len(lengths) == 1 and _lists(raw) == 1 + len(inputs)
    if not is_flat or len(set(keys)) != len(keys):
        return None
    numbers = np.frombuffer(inputs.as_buffer(of_type="d"))
    if not numbers.size or np.maximum.reduce(numbers) > LARGEST or np.minimum.reduce(numbers) < -LARGEST:
        return None
    fields = {key: request[key] for key in keys if key != "inputs"}
    return Plain(numbers.astype(np.float32).reshape(len(inputs), -1), fields)


def _lists(raw: bytes) -> int:
    """How many begin in it, counted by numpy where that is faster."""
    return raw.count(b"[") if len(raw) < SMALL else int(np.count_nonzero(np.frombuffer(raw, np.uint8) == ord("[")))
