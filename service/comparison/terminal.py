"""The progress of a comparison on the standard error stream: one line that is written over, or a line for each step."""

from __future__ import annotations

import sys
from types import TracebackType

from service.comparison.plan import Progress

WIDTH = 30


class Terminal:
    """`tell` it progress; it leaves a clean line behind."""

    def __init__(self) -> None:
        self._is_live = sys.stderr.isatty()
        self._said = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._is_live:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)  # noqa: T201  # how it speaks

    def say(self, text: str) -> None:
        """A step without a measure."""
        self.tell(Progress(0.0, 0.0, text))

    def tell(self, progress: Progress) -> None:
        """How far it is."""
        done = min(1.0, progress.done / progress.total) if progress.total else 0.0
        if self._is_live:
            bar = "#" * round(WIDTH * done)
            line = f"\r\x1b[2K[{bar:<{WIDTH}}] {progress.done:.0f} of {progress.total:.0f} s: {progress.doing}"
            print(line, end="", file=sys.stderr, flush=True)  # noqa: T201
        elif progress.doing != self._said:
            print(f"{done:4.0%} {progress.doing}", file=sys.stderr, flush=True)  # noqa: T201
        self._said = progress.doing
