"""A sweep: students of one teacher over a grid of settings, compared on validation. It never looks at the test set.

Each point of the grid is saved when it is there, and found again when the same sweep, or a larger one, goes on.
"""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.table import Table

from trainer.checkpoint import write_bytes
from trainer.display import Display
from trainer.lesson import Lesson, Options, load, open_lesson, pick_device
from trainer.networks import parameters
from trainer.plots import save_figure
from trainer.recipe import Recipe, StudentTable
from trainer.report import hardware


class Grid(NamedTuple):
    """The axes, each with at least one value, and how many seeds every point has."""

    hidden: Sequence[tuple[int, ...]]
    temperature: Sequence[float]
    hard_weight: Sequence[float]
    seeds: int


class Point(NamedTuple):
    """Students of one setting: its axes, and each seed's errors and NLL (nats) on validation."""

    hidden: tuple[int, ...]
    temperature: float
    hard_weight: float
    parameters: int
    errors: list[int]
    nll: list[float]

    @property
    def mean(self) -> float:
        """Validation errors, over seeds."""
        return statistics.fmean(self.errors)

    @property
    def deviation(self) -> float:
        """Of the validation errors over seeds; 0 for a single one."""
        return statistics.stdev(self.errors) if len(self.errors) > 1 else 0.0


COLUMNS = ("hidden", "T", "hard", "parameters", "validation errors", "NLL")


def sweep(recipe: Recipe, recipe_dir: Path, options: Options, grid: Grid, display: Display) -> list[Point]:
    """Trains every point of the grid and gives them, the best first; writes `sweep.json`, `.md` and `.png`.

    Raises RecipeError where a point is no valid student, before anything is trained.
    """
    recipe = recipe.for_students()
    settings = [recipe.student.changed(**axes) for axes in _axes(grid)]
    data = load(recipe, recipe_dir, options, display)
    points: list[Point] = []
    examples, where = len(data.split.validation.labels), hardware(pick_device(options.device))
    with open_lesson(recipe, recipe_dir, options, display, data, "-sweep") as lesson:
        tasks = (lesson.student_tasks(_name(student, grid), student, grid.seeds) for student in settings)
        lesson.spread([task for some in tasks for task in some])
        for number, student in enumerate(settings, start=1):
            points.append(_train(lesson, student, grid))
            write_sweep(lesson.workshop.folder, points, examples, where)
            display.say(f"{number} of {len(settings)}: {', '.join(cells(points[-1]))}")
        best_first = sorted(points, key=lambda point: (point.mean, statistics.fmean(point.nll)))
        display.console.print(_table(best_first))
        display.say(f"errors are of {examples} validation examples; {lesson.workshop.folder}")
    return best_first


def _axes(grid: Grid) -> list[dict[str, object]]:
    combined = itertools.product(grid.hidden, grid.temperature, grid.hard_weight)
    return [{"hidden": hidden, "temperature": t, "hard_weight": weight} for hidden, t, weight in combined]


def _name(student: StudentTable, grid: Grid) -> str:
    axes = f"{'x'.join(map(str, student.hidden))}-t{student.temperature:g}-w{student.hard_weight:g}"
    return f"student-{axes}-s{grid.seeds}"


def _train(lesson: Lesson, student: StudentTable, grid: Grid) -> Point:
    trained = lesson.student(_name(student, grid), student, grid.seeds)
    size = parameters(trained.networks[0])
    return Point(student.hidden, student.temperature, student.hard_weight, size, trained.errors, trained.nll)


def cells(point: Point) -> tuple[str, ...]:
    """A line of the table, in the order of COLUMNS."""
    spread = f" ± {point.deviation:.1f} [{len(point.errors)}]" if len(point.errors) > 1 else ""
    return (
        "-".join(map(str, point.hidden)) or "none",
        f"{point.temperature:g}",
        f"{point.hard_weight:g}",
        f"{point.parameters:,}",
        f"{point.mean:.1f}{spread}",
        f"{statistics.fmean(point.nll):.4f}",
    )


def _table(points: Sequence[Point]) -> Table:
    table = Table(*COLUMNS, box=SIMPLE_HEAD, padding=0, show_edge=False)
    for column in table.columns:
        column.justify, column.no_wrap = "right", True
    for point in points:
        table.add_row(*cells(point))
    return table


def write_sweep(folder: Path, points: Sequence[Point], examples: int, where: str) -> None:
    """All points so far as JSON, Markdown and a plot; errors are of so many validation examples."""
    facts = {"hardware": where, "validation_examples": examples, "points": [point._asdict() for point in points]}
    lines = [COLUMNS, ("---:",) * len(COLUMNS), *map(cells, points)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    note = (
        f"Errors are of {examples} validation examples, mean ± standard deviation over seeds [their number]; {where}."
    )
    write_bytes(folder / "sweep.md", f"{table}\n\n{note}\n".encode())
    write_bytes(folder / "sweep.json", json.dumps(facts, indent=1).encode())
    _draw(folder / "sweep.png", points)


def _draw(path: Path, points: Sequence[Point]) -> None:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for key in dict.fromkeys((point.hidden, point.hard_weight) for point in points):
        line = sorted((p for p in points if (p.hidden, p.hard_weight) == key), key=lambda point: point.temperature)
        label = f"{'-'.join(map(str, key[0]))}, hard weight {key[1]:g}"
        means, deviations = [p.mean for p in line], [p.deviation for p in line]
        axes.errorbar([p.temperature for p in line], means, deviations, marker="o", capsize=3, label=label)
    axes.set(xscale="log", xlabel="temperature", ylabel="validation errors", title="Students of one teacher")
    axes.legend(fontsize="small")
    save_figure(figure, path)
