"""The table in words, figures and pictures."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from service.machine import processors
from service.manifest import ImageSpec, Role
from service.measures import Estimate, Interval, wilson
from tests.repositories import linear_graph
from trainer.data.split import make_split
from trainer.display import Display
from trainer.errors import TrainerError
from trainer.evaluate import Contender, Gain, Results, Row, Spread
from trainer.export import Exported
from trainer.plots import _accuracy_against_size, draw_plots
from trainer.recipe import Recipe
from trainer.report import COLUMNS, cells, hardware, markdown, notes, show_results, write_results
from trainer.stages import Workshop

CPU = torch.device("cpu")
RECIPE = Recipe(name="mine", data="digits")


def row(role: Role, **values: object) -> Row:
    figures = {"errors": 12, "errors_interval": Interval(6.91, 20.6), "nll": 0.12345, "ece": 0.0198, "agreement": 0.978}
    rest = {"spread": None, "parameters": 89_610, "bytes": 360_123, "cpu_ms": 0.01234}
    return Row(**{"role": role, "examples": 360, **figures, **rest, **values})


MEMBER = row("member", errors=13.25, errors_interval=None, spread=Spread(13.25, 1.5, 4), bytes=None, cpu_ms=None)
ROWS = [row("ensemble", agreement=None), MEMBER, row("baseline"), row("student", spread=Spread(12.0, 0.5, 2))]


def results(kept: float | None = 0.75) -> Results:
    ensemble, student = Estimate(0.0244, Interval(0.0012, 0.0476)), Estimate(-0.01, Interval(-0.02, 0.001))
    share = None if kept is None else Estimate(kept, Interval(0.5, 0.9))
    return Results(ROWS, Gain(share, ensemble, student))


def test_a_line_of_the_table():
    """Golden text."""
    assert cells(ROWS[3]) == (
        *("student", "12 [7, 21]", "12.0 ± 0.5", "0.123", "0.020", "97.8%", "89,610", "360.1 kB", "0.012"),
    )
    assert cells(ROWS[0])[5] == ""
    assert cells(MEMBER) == ("a member", "13.2", "13.2 ± 1.5", "0.123", "0.020", "97.8%", "89,610", "", "")


def test_the_markdown_table_has_a_line_for_every_row():
    text = markdown(results(), "a Z80")
    lines = text.splitlines()
    assert lines[0] == f"| {' | '.join(COLUMNS)} |"
    assert lines[1] == "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    assert [line.count("|") for line in lines[:6]] == [10] * 6
    assert lines[5] == "| student | 12 [7, 21] | 12.0 ± 0.5 | 0.123 | 0.020 | 97.8% | 89,610 | 360.1 kB | 0.012 |"
    assert text.endswith("\n")


def test_the_notes_give_the_gain_and_its_share():
    expected = (
        "Accuracy above the baseline (paired, 95 %): ensemble +2.44 points [+0.12, +4.76], "
        "student -1.00 points [-2.00, +0.10]. "
    )
    assert notes(results(), "a Z80")[0] == f"{expected}The student keeps 75% [50%, 90%] of the ensemble's gain."
    assert "mean ± standard deviation of 4 members, 2 students." in notes(results(), "a Z80")[1]
    unknown = "The share of the gain that the student keeps is not given: the ensemble's interval holds 0."
    assert notes(results(None), "a Z80")[0] == expected + unknown
    assert notes(results(), "a Z80")[1].endswith("median (a Z80).")


def test_the_notes_name_the_specialists_where_these_taught():
    """Their gain, its share, and with whom the others agree."""
    gain, other = notes(results()._replace(teacher="specialists"), "a Z80")
    assert "(paired, 95 %): specialists +2.44 points" in gain
    assert gain.endswith("The student keeps 75% [50%, 90%] of the specialists' gain.")
    assert "agree: share of labels that are the specialists';" in other
    unknown = notes(results(None)._replace(teacher="specialists"), "a Z80")[0]
    assert unknown.endswith("is not given: the specialists' interval holds 0.")


def test_the_notes_do_not_say_that_an_interval_holds_0_where_it_is_below():
    """An ensemble that is worse than the baseline has no gain."""
    loss = Estimate(-0.03, Interval(-0.05, -0.01))
    assert "the ensemble's interval is below 0." in notes(Results(ROWS, Gain(None, loss, loss)), "a Z80")[0]


def test_nothing_is_shown_as_minus_zero():
    """What rounds to 0 has no sign of its own."""
    tiny = Estimate(0.002, Interval(-1e-6, 0.004))
    assert "student +0.20 points [0.00, +0.40]" in notes(Results(ROWS, Gain(None, tiny, tiny)), "a Z80")[0]


LONG = [line._replace(errors=3_700 + line.errors, parameters=231_022_000) for line in ROWS]


@pytest.mark.parametrize("rows", [ROWS, LONG])
@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_terminal_shows_every_figure(width, rows):
    """However narrow it is, no figure is cut off, and brackets are not taken for markup."""
    console = Console(file=io.StringIO(), width=width)
    show_results(console, results()._replace(rows=rows), "a Z80")
    text = " ".join(console.file.getvalue().split())
    for line in rows:
        for cell in cells(line):
            assert cell in text
    assert "[+0.12, +4.76]" in text


def test_results_are_written_as_json_and_markdown(tmp_path):
    """The same figures, with the recipe as run and the hardware."""
    write_results(tmp_path, RECIPE, results(), [], "a Z80")
    facts = json.loads((tmp_path / "results.json").read_bytes())
    assert facts["recipe"] == RECIPE.model_dump(mode="json")
    assert facts["published"] == []
    assert facts["hardware"] == "a Z80"
    assert [line["role"] for line in facts["rows"]] == ["ensemble", "member", "baseline", "student"]
    assert facts["rows"][3]["errors_interval"] == [6.91, 20.6]
    assert facts["gain"]["kept"] == [0.75, [0.5, 0.9]]
    assert (tmp_path / "results.md").read_text(encoding="utf-8") == markdown(results(), "a Z80")


def test_a_full_disk_is_told(tmp_path, full_disk):
    with full_disk(100), pytest.raises(TrainerError, match=r"cannot write .*results\.md: File too large"):
        write_results(tmp_path, RECIPE, results(), [], "a Z80")
    assert list(tmp_path.iterdir()) == []


def test_hardware_names_the_processor_and_its_cpus():
    assert hardware(CPU) == processors()


def workshop(classes: tuple[str, ...] = ("a", "b", "c"), shape: tuple[int, ...] = (4, 4), total: int = 60) -> Workshop:
    """Only its data matter here."""
    inputs = np.random.default_rng(0).random((total, *shape)).astype(np.float32)
    image = ImageSpec(range=(0.0, 1.0)) if len(shape) == 2 else None
    split = make_split("mine", inputs, np.arange(total) % len(classes), classes, image, np.arange(total) // 3 % 3)
    return Workshop(None, split, None, None, CPU, None)


def contenders(shop: Workshop) -> list[Contender]:
    graph = linear_graph(shop.split.shape, len(shop.split.classes), 0)
    roles: tuple[Role, ...] = ("ensemble", "baseline", "student")
    return [Contender(role, Exported(graph, 0.0, 1, 1, 1.0), [0], []) for role in roles]


PLOTS = ["accuracy-size.png", "reliability.png", "soft-targets.png"]


def draw(folder, shop: Workshop) -> None:
    draw_plots(folder, shop, contenders(shop), results(), 4.0)


def test_three_plots_are_drawn(tmp_path):
    """Every file is a picture."""
    draw(tmp_path, workshop())
    assert sorted(path.name for path in tmp_path.iterdir()) == PLOTS
    for name in PLOTS:
        with Image.open(tmp_path / name) as picture:
            picture.load()
            assert min(picture.size) > 200


def test_a_class_may_have_any_name(tmp_path):
    """A name is text and not TeX, and no warning tells that a font lacks its letters; here it is features."""
    draw(tmp_path, workshop(classes=("$\\frac$", "a_b^{", "猫"), shape=(5,), total=9))
    assert sorted(path.name for path in tmp_path.iterdir()) == PLOTS


def test_models_without_errors_are_drawn(tmp_path):
    """All right on every example: the interval ends at 100 %, and rounding does not push it beyond."""
    low, high = (360 * (1 - bound) for bound in reversed(wilson(360, 360)))
    member = MEMBER._replace(errors=0.0, spread=Spread(0.0, 0.0, 4))
    _accuracy_against_size([row("ensemble", errors=0, errors_interval=Interval(low, high)), member])


def test_a_full_disk_is_told_while_drawing(tmp_path, full_disk):
    with full_disk(1000), pytest.raises(TrainerError, match=r"cannot write .*\.png: File too large"):
        draw(tmp_path, workshop())


def display(width: int = 80, terminal: bool = False) -> tuple[Display, io.StringIO]:
    file = io.StringIO()
    return Display(Console(file=file, width=width, force_terminal=terminal)), file


@pytest.mark.parametrize("text", ["results: /tmp/[bold]/x", "/tmp/[/x]", "/tmp/:smile:", "/a/very" * 20])
def test_a_line_is_said_as_it_is(text):
    """Paths are not markup, and are not broken at the terminal's edge."""
    shown, file = display()
    shown.say(text)
    assert file.getvalue() == f"{text}\n"


def test_without_a_terminal_a_stage_is_two_lines():
    """What begins, how long it took, the last remark."""
    shown, file = display()
    with shown.stage("members", 3) as advance:
        advance(1, "validation errors 9")
        advance(3, "validation errors 7")
    first, second = file.getvalue().splitlines()
    assert first == "members …"
    assert second.startswith("members: ")
    assert second.endswith(" s, validation errors 7")


def test_on_a_terminal_a_stage_is_a_bar():
    """With what is done, of how much."""
    shown, file = display(width=120, terminal=True)
    with shown.stage("members", 3) as advance:
        advance(2, "validation errors [7]")
    assert "members" in file.getvalue()
    assert "3/3" in file.getvalue()
