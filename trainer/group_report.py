"""What the groups are, for a person: how confused each is, and the images that show it.

It knows groups, predictions and a part of the data, not how either came about.
Legend: N examples, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from trainer.checkpoint import write_bytes
from trainer.data.split import Split
from trainer.groups import Group, Moments, confusion
from trainer.plots import picture, save_figure

SHOWN = 8
"""Classes of a group that are drawn; the first ones."""


class Telling(NamedTuple):
    """A validation example of a class that the generalist finds most like another one of the group."""

    example: int
    label: int
    other: int
    probability: float


def report_groups(
    folder: Path,
    split: Split,
    log_p_NK: NDArray[np.floating],
    groups: Sequence[Group],
    found: Moments,
    errors: list[int],
) -> None:
    """Writes `groups.md` and `groups.png`: predictions and errors are of the validation part."""
    write_bytes(folder / "groups.md", groups_table(split, groups, found, errors).encode())
    save_figure(_figure(split, log_p_NK, groups, found), folder / "groups.png")


def groups_table(split: Split, groups: Sequence[Group], found: Moments, errors: list[int]) -> str:
    """A line for each group, in Markdown."""
    lines = [
        "| specialist | classes | most confused | share of the confusion | validation errors |",
        "|---:|---|---|---:|---:|",
    ]
    for number, (group, wrong) in enumerate(zip(groups, errors, strict=True), start=1):
        names = ", ".join(split.classes[label] for label in group)
        pair = " and ".join(split.classes[label] for label in _pair(found, group))
        lines.append(f"| {number} | {names} | {pair} | {confusion(found, group):.1%} | {wrong} |")
    covered = {label for group in groups for label in group}
    without = [name for label, name in enumerate(split.classes) if label not in covered]
    notes = [
        "The generalist's confusion is the chance that two draws from one of its predictions are different classes; a "
        "group's share is that of both being its classes. An error of a specialist is one among its classes and its "
        f"dustbin (with a full softmax, among all classes), of {len(split.validation.labels)} validation examples."
    ]
    notes += [f"Nobody's special class: {', '.join(without)}."] if without else []
    return "\n".join(lines) + "\n\n" + "\n\n".join(notes) + "\n"


def telling(split: Split, log_p_NK: NDArray[np.floating], group: Group) -> list[Telling]:
    """For each class of a group the example that shows its confusion; none for a class without others or examples."""
    shown = []
    for label in group:
        own = np.flatnonzero(split.validation.labels == label)
        others = [other for other in group if other != label]
        if len(own) and others:
            within = log_p_NK[own][:, others]
            example, other = np.unravel_index(within.argmax(), within.shape)
            p = float(np.exp(within[example, other]))
            shown.append(Telling(int(own[example]), label, others[int(other)], p))
    return shown


def _pair(found: Moments, group: Group) -> tuple[int, ...]:
    """The two classes of a group that are drawn together most often; of a group of one, that one."""
    if len(group) < 2:
        return group
    within = found.together[np.ix_(group, group)] * (1.0 - np.eye(len(group)))
    first, second = np.unravel_index(within.argmax(), within.shape)
    return group[int(first)], group[int(second)]


def _figure(split: Split, log_p_NK: NDArray[np.floating], groups: Sequence[Group], found: Moments) -> Figure:
    columns = min(SHOWN, max(map(len, groups)))
    figure = Figure(figsize=(1.6 * columns + 1.4, 1.9 * len(groups)), layout="constrained")
    panels: NDArray = figure.subplots(len(groups), columns, squeeze=False)
    for axes in panels.flat:
        axes.set_axis_off()
    for number, (line, group) in enumerate(zip(panels, groups, strict=True), start=1):
        for axes, shown in zip(line, telling(split, log_p_NK, group), strict=False):
            picture(axes, split.validation.inputs[shown.example], split, shown.label)
            title = f"{split.classes[shown.label]}, like {split.classes[shown.other]}: {shown.probability:.0%}"
            axes.set_title(title, parse_math=False, size=8)
        share = f"{number}: {confusion(found, group):.0%}"
        line[0].text(-0.15, 0.5, share, transform=line[0].transAxes, ha="right", va="center")
    figure.suptitle("Groups, their share of the confusion, and what the generalist takes their images for", size=10)
    return figure
