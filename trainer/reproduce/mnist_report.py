"""The table and the plots of what was reproduced. It knows rows, not experiments."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from matplotlib.figure import Figure

from trainer.checkpoint import write_bytes
from trainer.plots import save_figure
from trainer.reproduce.rows import Results, Row, line


def write_report(place: Path, results: Results) -> None:
    """Writes `<place>.md` and its plot."""
    plot = f"{place.name}-temperature.png"
    write_bytes(place.with_suffix(".md"), markdown(results, plot).encode())
    draw_plots(place.with_name(plot), results)


def markdown(results: Results, plot: str) -> str:
    """The command, the machine, the rows beside the paper's, and what to know about them."""
    rows = [row for row in results.rows if "temperature" not in row.details]
    tested = "the few examples of a quick run" if "--quick" in results.command.split() else "10,000"
    lines = [
        "# The paper's MNIST section, reproduced",
        "",
        f"    {results.command}",
        "",
        f"{results.hardware}; {results.seconds / 3600:.1f} hours. Test errors out of {tested}, mean ± standard",
        "deviation over seeds (their number in brackets). Validation examples, which are not learnt, choose epochs.",
        "",
        "| row | what | paper | to reach | ours | chosen on | time |",
        "|---|---|---:|---:|---:|---|---:|",
        *(line(row, 1, row.chosen_on) for row in rows),
        "",
        *_notes(results.rows),
    ]
    widths = _widths(results.rows)
    if widths:
        lines += ["", "Test errors by temperature and width of the student, one seed each:", "", *_grid(widths)]
        lines += ["", f"![Test errors against the temperature]({plot})"]
    return "\n".join(lines).rstrip() + "\n"


def _notes(rows: list[Row]) -> list[str]:
    """What a row says beside its errors."""
    notes = []
    for row in rows:
        if "paired" in row.details:
            low, high = row.details["paired"]["interval"]
            fewer = row.details["paired"]["fewer_errors"]
            notes.append(
                f"`{row.id}` has {fewer:.1f} errors fewer than `plain` [{low:.1f}, {high:.1f}] (paired, 95 %)."
            )
        if "parameters" in row.details:
            notes.append(f"`{row.id}` has {row.details['parameters']:,} parameters.")
        if "note" in row.details:
            notes.append(f"`{row.id}`: {row.details['note']}.")
    return [f"- {note}" for note in notes]


def _widths(rows: list[Row]) -> dict[int, dict[float, Row]]:
    found: dict[int, dict[float, Row]] = defaultdict(dict)
    for row in rows:
        if "temperature" in row.details:
            found[row.details["width"]][row.details["temperature"]] = row
    return dict(found)


def _grid(widths: dict[int, dict[float, Row]]) -> list[str]:
    temperatures = sorted({temperature for rows in widths.values() for temperature in rows})
    lines = [f"| width | {' | '.join(f'T = {t:g}' for t in temperatures)} |", "|---:|" + "---:|" * len(temperatures)]
    for width, rows in sorted(widths.items()):
        cells = [f"{rows[t].mean:.0f}" if t in rows else "" for t in temperatures]
        lines.append(f"| {width} | {' | '.join(cells)} |")
    return lines


def draw_plots(path: Path, results: Results) -> None:
    """Test errors by temperature, once there are rows for it."""
    widths = _widths(results.rows)
    if not widths:
        return
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for width, rows in sorted(widths.items()):
        temperatures = sorted(rows)
        axes.plot(temperatures, [rows[t].mean for t in temperatures], marker="o", label=f"{width} units")
    axes.set(xscale="log", yscale="log", xlabel="temperature", ylabel="test errors", title="Students of the ten")
    # Plain numbers at the places that were measured, not powers of ten.
    axes.set_xticks(temperatures, [f"{temperature:g}" for temperature in temperatures])
    axes.set_yticks([50, 100, 200, 400], ["50", "100", "200", "400"])
    axes.minorticks_off()
    figure.legend(loc="outside right center", title="a layer")
    save_figure(figure, path)
