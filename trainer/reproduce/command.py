"""`python -m trainer reproduce`: an experiment row by row, each saved at once, and a finished one not done twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from trainer.cluster import cluster_of
from trainer.data.split import Part, Split
from trainer.display import Display
from trainer.errors import TrainerError
from trainer.lesson import Data
from trainer.report import hardware
from trainer.reproduce.lab import Lab
from trainer.reproduce.rows import Figure, Results, Row, read_results, write_rows
from trainer.runs import open_run, run_name_of
from trainer.stages import Workshop, examples

QUICK_EXAMPLES = 600


class Asked(NamedTuple):
    """What the command line says: where data, runs and results are, which rows, whether tiny, and where to train."""

    data_dir: Path | None
    runs_dir: Path
    out: Path
    device: torch.device
    rows: Sequence[str]
    quick: bool
    on: str
    command: str


class Rows(NamedTuple):
    """The rows that an experiment can make in a lab, and about how many seconds all of them take."""

    figures: list[Figure]
    estimate_s: Callable[[], float]


class Experiment(NamedTuple):
    """A section of the paper: its name, its data and its rows (few and tiny, or in full), and its table and plots,
    written beside the JSON; they are given its path without the suffix."""

    name: str
    load: Callable[[Path | None, bool, Display], Data]
    rows: Callable[[Lab, bool], Rows]
    write: Callable[[Path, Results], None]


def reproduce(experiment: Experiment, asked: Asked, display: Display) -> Results:
    """Makes every row that is asked for and not there, and writes `<name>.json`, `<name>.md` and plots after each;
    tiny ones are `<name>-quick`.

    Raises TrainerError where a row is asked for that there is not.
    """
    split, transfer = experiment.load(asked.data_dir, asked.quick, display)
    name = run_name_of(f"reproduce-{experiment.name}", [asked.quick, split.sha256(), asked.device.type])
    with open_run(asked.runs_dir, name, resume=True) as folder:
        parts = examples(split.train, asked.device), examples(split.validation, asked.device)
        lab = Lab(Workshop(folder, split, *parts, asked.device, display, cluster_of(asked.on)), transfer)
        rows = experiment.rows(lab, asked.quick)
        _check(asked.rows, rows.figures)
        return _make(experiment, asked, rows, display)


def _make(experiment: Experiment, asked: Asked, rows: Rows, display: Display) -> Results:
    place = asked.out / (f"{experiment.name}-quick" if asked.quick else experiment.name)
    path = place.with_suffix(".json")
    results = Results(asked.command, hardware(asked.device), [])
    if before := read_results(path):
        experiment.write(place, before)  # the tables of an earlier version are written anew
        results = results._replace(rows=before.rows)
    done = {row.id for row in results.rows}
    left = [figure for figure in rows.figures if figure.id not in done and (not asked.rows or figure.id in asked.rows)]
    if left:
        hours, total = rows.estimate_s() / 3600, len(rows.figures)
        display.say(f"{len(left)} of {total} rows to make; all of them take about {hours:.1f} hours here")
    for figure in left:
        row = _row(figure)
        results = results._replace(rows=_ordered([*results.rows, row], rows.figures))
        write_rows(path, results)
        experiment.write(place, results)
        values = ", ".join(f"{value:.6g}" for value in row.values)
        display.say(f"{row.id}: {values} {row.metric.replace('_', ' ')}; {row.seconds:.0f} s")
    return results


def _row(figure: Figure) -> Row:
    start = time.monotonic()
    values, details = figure.measure()
    seconds = round(time.monotonic() - start, 1)
    return Row(
        figure.id,
        figure.title,
        figure.metric,
        figure.paper,
        figure.goal,
        values,
        figure.chosen_on,
        seconds,
        details,
    )


def _ordered(rows: Sequence[Row], figures: Sequence[Figure]) -> list[Row]:
    order = {figure.id: place for place, figure in enumerate(figures)}
    return sorted(rows, key=lambda row: order.get(row.id, len(order)))


def _check(asked: Sequence[str], figures: Sequence[Figure]) -> None:
    known = [figure.id for figure in figures]
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise TrainerError(f"no row {unknown[0]!r}; there are: {', '.join(known)}")


def fewer(split: Split) -> Split:
    """A few hundred examples of each part, as many of each class where there are as many."""
    each = -(-QUICK_EXAMPLES // len(split.classes))

    def some(part: Part) -> Part:
        first = [np.flatnonzero(part.labels == label)[:each] for label in range(len(split.classes))]
        kept = np.sort(np.concatenate(first))
        return Part(part.inputs[kept], part.labels[kept])

    return Split(split.name, split.classes, split.image, some(split.train), some(split.validation), some(split.test))
