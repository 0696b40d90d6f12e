"""Plots of a run, as PNG: accuracy against size, reliability diagrams, the soft targets of telling images.

It knows results and predictions, not how they came about. It draws without a display.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from service import measures
from service.manifest import Role
from trainer.checkpoint import write_bytes
from trainer.data.split import Part, Split
from trainer.evaluate import Contender, Results, Row, through_graph
from trainer.stages import Workshop

COLOURS = {
    "ensemble": "#3b5b92",
    "member": "#8aa1c9",
    "specialists": "#4f8a5b",
    "baseline": "#9a9a9a",
    "student": "#c8553d",
}
TELLING = 4


def draw_plots(
    folder: Path, workshop: Workshop, contenders: Sequence[Contender], results: Results, temperature: float
) -> None:
    """Writes `accuracy-size.png`, `reliability.png` and `soft-targets.png`."""
    split = workshop.split
    logits = {c.role: through_graph(c.exported.graph, split.validation) for c in contenders if not c.reduced}
    save_figure(_accuracy_against_size(results.rows), folder / "accuracy-size.png")
    save_figure(_reliability(logits, split.validation), folder / "reliability.png")
    save_figure(_soft_targets(logits, results.teacher, split, temperature), folder / "soft-targets.png")


def _accuracy_against_size(rows: Sequence[Row]) -> Figure:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for row in (row for row in rows if row.role in COLOURS):  # reduced forms have the student's place
        x = row.parameters * (0.93 if row.role == "baseline" else 1.0)  # beside the student, which has its size
        share = 100 * (1 - row.errors / row.examples)
        if row.errors_interval is not None:
            low, high = (100 * (1 - bound / row.examples) for bound in reversed(row.errors_interval))
        else:
            deviation = 100 * row.spread.deviation / row.examples if row.spread else 0.0
            low, high = share - deviation, share + deviation
        lengths = [[max(0.0, share - low)], [max(0.0, high - share)]]  # rounding can make one of 0 negative
        axes.errorbar(x, share, lengths, fmt="o", capsize=4, color=COLOURS[row.role])
        left = row.role == "baseline"
        place, side = ((-8, 4), "right") if left else ((8, 4), "left")
        axes.annotate(row.role, (x, share), xytext=place, ha=side, textcoords="offset points")
    axes.set(xscale="log", xlabel="parameters", ylabel="test accuracy, %", title="Accuracy against size")
    axes.text(0.99, 0.02, "bars: 95 %; of the members ± 1 deviation", transform=axes.transAxes, ha="right", size=8)
    axes.margins(x=0.3)
    return figure


def _reliability(logits: Mapping[Role, NDArray[np.floating]], part: Part) -> Figure:
    figure = Figure(figsize=(4 * len(logits), 4), layout="constrained")
    panels: NDArray = figure.subplots(1, len(logits), sharey=True)
    for axes, (role, logits_NK) in zip(panels, logits.items(), strict=True):
        log_p_NK = measures.log_softmax(logits_NK)
        bins = measures.reliability(log_p_NK, part.labels)
        axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1)
        axes.scatter(
            [b.confidence for b in bins],
            [b.accuracy for b in bins],
            s=[12 + 200 * b.examples / len(part.labels) for b in bins],
            color=COLOURS[role],
        )
        axes.set(xlabel="confidence", title=f"{role}: ECE {measures.ece(log_p_NK, part.labels):.3f}")
        axes.set(xlim=(0, 1.03), ylim=(-0.03, 1.03))
    panels[0].set_ylabel("accuracy")
    figure.suptitle(f"Reliability on the {len(part.labels):,} validation examples; area: share of the examples")
    return figure


def _soft_targets(
    logits: Mapping[Role, NDArray[np.floating]], teacher: Role, split: Split, temperature: float
) -> Figure:
    """The images whose softened targets say most: of those classified rightly, the ones with the largest entropy."""
    part = split.validation
    log_p_NK = measures.log_softmax(logits[teacher])
    entropy_N = -(np.exp(log_p_NK) * log_p_NK).sum(axis=1)
    right_N = log_p_NK.argmax(axis=1) == part.labels
    telling = np.argsort(np.where(right_N, -entropy_N, np.inf))[:TELLING]
    temperatures = sorted({1.0, 2.0, temperature, 4 * temperature})
    figure = Figure(figsize=(2.4 * (len(temperatures) + 1), 1.9 * len(telling)), layout="constrained")
    panels: NDArray = figure.subplots(len(telling), len(temperatures) + 1, squeeze=False)
    for line, index in zip(panels, telling, strict=True):
        picture(line[0], part.inputs[index], split, int(part.labels[index]))
        for axes, at in zip(line[1:], temperatures, strict=True):
            probabilities_K = np.exp(measures.log_softmax(log_p_NK[index], at))
            axes.bar(range(len(split.classes)), probabilities_K, color=COLOURS[teacher])
            axes.set(ylim=(0, 1), yticks=(0, 1))
            if len(split.classes) <= 12:
                axes.set_xticks(range(len(split.classes)), split.classes, parse_math=False)
    for axes, at in zip(panels[0, 1:], temperatures, strict=True):
        axes.set_title(f"T = {at:g}")
    figure.suptitle(f"Soft targets of the {teacher}")
    return figure


def picture(axes: Axes, example: NDArray, split: Split, label: int) -> None:
    """An example where it is an image, and its class."""
    if split.image is not None:
        low, high = split.image.range
        axes.imshow(example, cmap="gray", vmin=low, vmax=high)
    axes.set_axis_off()
    axes.set_title(split.classes[label], parse_math=False)


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG, whole or not at all."""
    raw = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a class may have any name
        figure.savefig(raw, dpi=110, format="png")
    write_bytes(path, raw.getvalue())
