"""A sweep of tiny students: every point, gone on with, the best first, the test set never shown."""

import json
import re

import pytest

from tests.trainer.conftest import TINY, trainer_here
from trainer.errors import RecipeError
from trainer.recipe import StudentTable

GRID = ("--temperature", "1,4", "--hidden", "6,8", "--seeds", "2")


def run_sweep(folder, *more: str):
    return trainer_here("sweep", "tiny.toml", "--runs-dir", "runs", "--device", "cpu", *(more or GRID), cwd=folder)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The folder of a sweep that was made in two goes, and what the second printed."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "tiny.toml").write_text(TINY)
    first = run_sweep(folder, "--temperature", "4", "--hidden", "8", "--seeds", "2")
    assert first.returncode == 0, first.stderr
    done = run_sweep(folder, *GRID, "--resume")
    assert done.returncode == 0, done.stderr
    (run,) = folder.glob("runs/tiny-sweep-*")
    return run, done.stdout


def test_every_point_of_the_grid_is_there(swept):
    """Widths and temperatures crossed, each with its seeds, errors of validation examples alone."""
    run, _ = swept
    facts = json.loads((run / "sweep.json").read_bytes())
    points = [(point["hidden"], point["temperature"], point["hard_weight"]) for point in facts["points"]]
    assert points == [([6], 1.0, 0.1), ([6], 4.0, 0.1), ([8], 1.0, 0.1), ([8], 4.0, 0.1)]
    assert all(len(point["errors"]) == len(point["nll"]) == 2 for point in facts["points"])
    assert facts["validation_examples"] == 360
    assert "test" not in (run / "sweep.json").read_text()


def test_a_larger_sweep_goes_on_where_a_smaller_one_was(swept):
    """The teacher and the point that was there are found again: they take no time."""
    _, printed = swept
    assert "no run of this recipe" not in printed
    for found in ("members", "student-8-t4-w0.1-s2"):
        seconds = re.search(rf"^{re.escape(found)}: ([0-9.]+) s", printed, flags=re.M)
        assert seconds
        assert float(seconds[1]) < 0.4


def test_the_best_comes_first_in_the_table(swept):
    """By the mean of the validation errors."""
    _, printed = swept
    means = [float(mean) for mean in re.findall(r"([0-9.]+) ± [0-9.]+ \[2\] +[0-9.]+$", printed, flags=re.M)]
    assert len(means) == 4
    assert means == sorted(means)


def test_a_table_and_a_plot_are_written(swept):
    """A row for every point."""
    run, _ = swept
    assert len(re.findall(r"^\| [68] \|", (run / "sweep.md").read_text(), flags=re.M)) == 4
    assert (run / "sweep.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (("--temperature", "warm"), "'warm' is not numbers with commas between them, such as 1,2.5,20"),
        (("--hidden", "8x,8"), "'8x,8' is not hidden layers with commas between them, such as 16,32x32"),
        (("--temperature", "0"), "student: temperature: got 0.0, expected greater than or equal to 0.01"),
        (("--hard-weight", "2"), "student: hard_weight 2.0 is above 1, which a convex mix cannot have"),
    ],
)
def test_a_point_that_cannot_be_is_told_before_the_training(tmp_path, option, told):
    """In one line."""
    (tmp_path / "tiny.toml").write_text(TINY)
    done = run_sweep(tmp_path, *option)
    assert done.returncode == 2
    assert told in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_changed_student_is_validated_like_a_recipes():
    """Other values stay."""
    changed = StudentTable(epochs=7).changed(hidden=(5, 5), temperature=2.0)
    assert (changed.epochs, changed.hidden, changed.temperature) == (7, (5, 5), 2.0)
    with pytest.raises(RecipeError, match=r"student: hidden\.0: got 0, expected greater than or equal to 1"):
        StudentTable().changed(hidden=(0,))
