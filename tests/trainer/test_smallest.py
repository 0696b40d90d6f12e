"""The smallest student that will do: chosen as worked out by hand, published whole, or told why not."""

import json

import pytest

from service.manifest import read_manifest
from tests.trainer.conftest import TINY, trainer_here
from trainer.candidates import Candidate, frontier
from trainer.errors import TrainerError
from trainer.smallest import Limits, choose

CANDIDATES = [
    Candidate((4,), "float32", 0.92, 310, 2300, 0.015),
    Candidate((8,), "int8", 0.981, 610, 3100, 0.030),
    Candidate((8,), "float32", 0.982, 610, 3500, 0.017),
    Candidate((16,), "float32", 0.986, 1210, 5900, 0.018),
]
ENSEMBLE = 0.987


@pytest.mark.parametrize(
    ("limits", "title"),
    [
        (Limits(tolerance=0.6), "8 int8"),
        (Limits(tolerance=0.5), "8 float32"),
        (Limits(tolerance=0.1), "16 float32"),
        (Limits(tolerance=7.0), "4 float32"),
        (Limits(tolerance=0.6, p99_ms=0.02), "8 float32"),
        (Limits(parameters=700), "8 float32"),
        (Limits(bytes=3200), "8 int8"),
        (Limits(p99_ms=0.016), "4 float32"),
        (Limits(p99_ms=1.0), "16 float32"),
    ],
)
def test_a_tolerance_takes_the_smallest_and_a_budget_the_most_accurate(limits, title):
    """Within all limits that are given."""
    assert choose(CANDIDATES, ENSEMBLE, limits).title == title


def test_where_none_keeps_to_the_limits_the_nearest_is_told():
    """What was asked, what there is, what to do."""
    with pytest.raises(TrainerError) as caught:
        choose(CANDIDATES, ENSEMBLE, Limits(tolerance=0.05, bytes=1000))
    assert str(caught.value) == (
        "no student keeps to 0.05 points below the teacher and 1000 bytes; the most accurate is 16 float32: 0.10 "
        "points below the teacher, 1,210 parameters, 5,900 bytes, p99 0.0180 ms; give other ones with --hidden"
    )


def test_the_frontier_is_what_no_cheaper_one_beats():
    """By cost; equals at a higher cost are not on it."""
    points = [(3.0, 0.7), (1.0, 0.5), (2.0, 0.4), (4.0, 0.7), (5.0, 0.9)]
    assert frontier(points) == [(1.0, 0.5), (3.0, 0.7), (5.0, 0.9)]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The folder of a finished search of two sizes, and what it printed."""
    folder = tmp_path_factory.mktemp("smallest")
    (folder / "tiny.toml").write_text(TINY)
    places = ("--models-dir", "models", "--runs-dir", "runs", "--device", "cpu")
    done = trainer_here("smallest", "tiny.toml", "--parameters", "400", "--hidden", "3,4,8", *places, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_the_chosen_student_is_published_with_its_teacher(found):
    """Its manifest has the size that was chosen, within the budget."""
    folder, printed = found
    student = read_manifest(folder / "models/tiny-student/1")
    assert student.recipe["student"]["hidden"] == [4]
    assert student.parameters == 65 * 4 + 5 * 10
    assert student.teacher is not None
    assert student.teacher.name == "tiny-ensemble"
    assert "chosen: 4 " in printed


def test_every_candidate_is_in_the_files(found):
    """Float32 of each size, and int8 where it kept its accuracy."""
    folder, _ = found
    (run,) = folder.glob("runs/tiny-smallest-*")
    facts = json.loads((run / "smallest.json").read_bytes())
    sizes = {tuple(candidate["hidden"]) for candidate in facts["candidates"] if candidate["form"] == "float32"}
    assert sizes == {(3,), (4,), (8,)}
    assert all(candidate["p99_ms"] > 0 for candidate in facts["candidates"])
    assert "| 8 | float32 |" in (run / "smallest.md").read_text()
    assert (run / "smallest.png").stat().st_size > 1000


def test_an_impossible_budget_publishes_nothing(found):
    """What was trained is there for the next try."""
    folder, _ = found
    options = ("--bytes", "100", "--hidden", "3,4,8", "--models-dir", "none", "--runs-dir", "runs", "--resume")
    done = trainer_here("smallest", "tiny.toml", *options, cwd=folder)
    assert done.returncode == 2
    assert "no student keeps to 100 bytes; the most accurate is " in done.stderr
    assert not list((folder / "none").glob("*/*"))


def test_a_limit_is_a_number(tmp_path):
    """Of 0 or more."""
    done = trainer_here("smallest", "digits", "--tolerance", "-1", cwd=tmp_path)
    assert done.returncode == 2
    assert "'-1' is not a number of 0 or more" in done.stderr


def test_a_width_that_cannot_be_is_told_before_the_first_is_trained(tmp_path):
    (tmp_path / "tiny.toml").write_text(TINY)
    done = trainer_here("smallest", "tiny.toml", "--tolerance", "1", "--hidden", "8,0", cwd=tmp_path)
    assert done.returncode == 2
    assert "student: hidden.0: got 0, expected greater than or equal to 1" in done.stderr
    assert "members" not in done.stdout + done.stderr
