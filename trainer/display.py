"""What a person sees while a run goes on: a bar for every stage, or a line where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Advance = Callable[[int, str], None]
"""Called with how much is done and a short remark."""


class Display:
    """Stages of a run, shown on a console."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def say(self, text: str) -> None:
        """A line of its own."""
        self.console.print(text, highlight=False, soft_wrap=True, markup=False, emoji=False)

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Advance]:
        """A stage of `total` steps; the time it took stays on the screen."""
        if not self.console.is_terminal:
            yield from self._lines(title)
            return
        columns = (
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(elapsed_when_finished=False),
            TextColumn("[dim]{task.fields[remark]}"),
        )
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task(title, total=total, remark="")
            yield lambda done, remark: progress.update(task, completed=done, remark=remark)
            progress.update(task, completed=total)

    def _lines(self, title: str) -> Iterator[Advance]:
        last = ""

        def advance(_done: int, remark: str) -> None:
            nonlocal last
            last = remark

        start = time.monotonic()
        self.say(f"{title} …")
        yield advance
        self.say(f"{title}: {time.monotonic() - start:.1f} s" + (f", {last}" if last else ""))
