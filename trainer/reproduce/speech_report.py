"""The tables and the plot of the acoustic model: rows as text and as pictures. It knows rows, not experiments."""

from __future__ import annotations

import statistics
from pathlib import Path

from matplotlib.figure import Figure

from trainer.checkpoint import write_bytes
from trainer.plots import save_figure
from trainer.reproduce.rows import Results, Row, line, number, spread

FEW_PAPER = {"all_data": (63.4, 58.9), "hard_3_percent": (67.3, 44.5), "soft_3_percent": (65.4, 57.0)}
"""% of training and test frames (Table 5)."""


def write_report(place: Path, results: Results) -> None:
    """Writes `<place>.md`, and a plot of what is left where recordings are few once there are rows for it."""
    write_bytes(place.with_suffix(".md"), markdown(results, place.name).encode())
    if any(row.id.startswith("soft_") for row in results.rows):
        _draw_few(place.with_name(f"{place.name}-few.png"), results)


def markdown(results: Results, name: str) -> str:
    """The command, the machine, the rows, and what follows from them."""
    rows = {row.id: row for row in results.rows}
    lines = [
        "# The paper's acoustic model, reproduced on public recordings",
        "",
        f"    {results.command}",
        "",
        f"{results.hardware}; {results.seconds / 3600:.1f} hours. Frames whose state is right and words that are",
        "wrong, in % of those of the test speakers, who are in no other part; mean ± standard deviation over networks",
        "(their number in brackets). Speakers of validation choose epochs, temperature and the penalty of strings.",
        "",
        "| row | what | paper | to reach | ours | time |",
        "|---|---|---:|---:|---:|---:|",
        *(line(row, 2) for row in results.rows),
        *_words(rows),
        *_few(rows, name),
    ]
    return "\n".join(lines) + "\n"


def _words(rows: dict[str, Row]) -> list[str]:
    """Words: by themselves and in strings, with intervals."""
    kinds = [rows[name] for name in ("wer_single", "wer_ensemble", "wer_distilled") if name in rows]
    if not kinds:
        return []
    details = kinds[0].details
    return [
        "",
        "## Words",
        "",
        f"Of {details['recordings']:,} recordings of one word, and of strings with {details['words_in_strings']:,} "
        "words in all. Intervals are of the first network of each kind, 95 %, by resampling speakers, or recordings.",
        "",
        "| row | word error rate | over speakers | above the ensemble's | over speakers | in strings | over speakers |",
        "|---|---:|---:|---:|---:|---:|---:|",
        *map(_words_line, kinds),
    ]


def _words_line(row: Row) -> str:
    details = row.details
    keys = ("over_speakers", "above_ensemble", "above_ensemble_over_speakers", "strings_over_speakers")
    speakers, above, above_speakers, strings_speakers = (_interval(*details[key][0]) for key in keys)
    strings = spread(details["strings"], 2)
    cells = (f"`{row.id}`", spread(row.values, 2), speakers, above, above_speakers, strings, strings_speakers)
    return f"| {' | '.join(cells)} |"


def _interval(value: float, low: float | None, high: float | None) -> str:
    return f"{value:.2f}" if low is None else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _few(rows: dict[str, Row], name: str) -> list[str]:
    """The paper's Table 5, at every share of the recordings."""
    kinds = [row for row in rows.values() if "train" in row.details]
    if not kinds:
        return []
    lines = [
        "",
        "## Soft targets where recordings are few",
        "",
        "| row | recordings | training frames | paper | test frames | paper |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in kinds:
        paper = FEW_PAPER.get(row.id, (None, None))
        cells = (
            f"`{row.id}`",
            f"{row.details['recordings']:,}",
            spread(row.details["train"], 2),
            number(paper[0]),
            spread(row.values, 2),
            number(paper[1]),
        )
        lines.append(f"| {' | '.join(cells)} |")
    if "loss_recovered" in rows:
        found = rows["loss_recovered"].details["by_percent_of_recordings"]
        shares = "; ".join(f"at {percent} % of them {spread(values, 0)} %" for percent, values in found.items())
        lines += ["", f"Of what fewer recordings cost, soft targets make good: {shares}. The paper's 87 % is at 3 %."]
    return [*lines, "", f"![Test frames by the share of the recordings]({name}-few.png)"]


def _draw_few(path: Path, results: Results) -> None:
    """Hard and soft by the share of the recordings."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for kind, label, colour in (("hard", "hard labels", "#9a9a9a"), ("soft", "soft targets", "#c8553d")):
        rows = [row for row in results.rows if row.id.startswith(f"{kind}_")]
        shares = [float(row.id.split("_")[1]) for row in rows]
        errors = [statistics.stdev(row.values) if len(row.values) > 1 else 0.0 for row in rows]
        axes.errorbar(shares, [row.mean for row in rows], errors, marker="o", capsize=4, color=colour, label=label)
    for row in results.rows:
        if row.id == "all_data":
            axes.axhline(row.mean, color="#3b5b92", linestyle="--", label="all recordings")
    axes.set(
        xscale="log", xlabel="% of the recordings", ylabel="% of test frames right", title="Soft targets, few data"
    )
    ticks = sorted({float(row.id.split("_")[1]) for row in results.rows if row.id.startswith("soft_")})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    figure.legend(loc="outside right center")
    save_figure(figure, path)
