"""Figures of the paper made anew: tiny, from the command line, in two goes; and the repairs by hand."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import special

from tests.trainer.conftest import trainer_here
from tests.trainer.test_mnist import idx
from trainer.data.mnist import FILES
from trainer.errors import RunError
from trainer.reproduce.mnist_report import markdown
from trainer.reproduce.repair import best_shift, prior_shifts, shifted
from trainer.reproduce.rows import Results, Row, read_results, write_rows

WANTED = (
    *("teacher", "plain", "distilled_t20", "ensemble_10", "distilled_jitter", "distilled_jitter_control"),
    *("best_student", "best_student_control", "no_threes", "no_threes_paper_bias", "no_threes_prior_bias"),
    *("sevens_eights", "sevens_eights_paper_bias", "sevens_eights_prior_bias"),
)
RANDOM = np.random.default_rng(0)


def write_data(folder: Path) -> None:
    """Blobs whose place is the class, as MNIST's four files."""
    (folder / "mnist").mkdir(parents=True)
    for images, labels, total in ((*FILES_OF[0], 900), (*FILES_OF[1], 300)):
        digits = (np.arange(total) % 10).astype(np.uint8)
        pictures = RANDOM.integers(0, 40, (total, 28, 28), dtype=np.uint8)
        for picture, digit in zip(pictures, digits, strict=True):
            row, column = 4 + 12 * (digit // 5), 2 + 5 * (digit % 5)
            picture[row : row + 8, column : column + 4] += 200
        (folder / "mnist" / images).write_bytes(gzip.compress(idx(pictures)))
        (folder / "mnist" / labels).write_bytes(gzip.compress(idx(digits)))


FILES_OF = [list(FILES)[:2], list(FILES)[2:]]


def reproduce(folder: Path, *more: str):
    places = ("--data-dir", "data", "--runs-dir", "runs", "--out", "out", "--device", "cpu")
    return trainer_here("reproduce", "mnist", "--quick", *places, *more, cwd=folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a quick reproduction that was made in two goes, and what the second printed."""
    folder = tmp_path_factory.mktemp("reproduce")
    write_data(folder / "data")
    first = reproduce(folder, "--rows", "plain,ensemble_10")
    assert first.returncode == 0, first.stderr
    facts = json.loads((folder / "out/mnist-quick.json").read_bytes())
    assert [row["id"] for row in facts["rows"]] == ["plain", "ensemble_10"]
    second = reproduce(folder)
    assert second.returncode == 0, second.stderr
    return folder, second.stdout, facts


def test_every_row_is_there_with_a_value_for_each_seed(run):
    """In the form that was agreed."""
    folder, _, _ = run
    facts = json.loads((folder / "out/mnist-quick.json").read_bytes())
    assert facts["command"] == "python -m trainer reproduce mnist --quick"
    assert facts.keys() == {"command", "hardware", "seconds", "rows"}
    rows = {row["id"]: row for row in facts["rows"]}
    assert set(WANTED) <= set(rows)
    assert {row["metric"] for row in rows.values()} == {"test_errors"}
    assert {name for name, row in rows.items() if row["chosen_on"] == "test"} == {
        "no_threes_paper_bias",
        "sevens_eights_paper_bias",
    }
    assert (len(rows["teacher"]["values"]), len(rows["plain"]["values"]), len(rows["ensemble_10"]["values"])) == (
        3,
        2,
        1,
    )
    assert rows["teacher"]["paper"] == 67


def test_finished_rows_stay_and_what_they_trained_is_shared(run):
    """The second go trains neither the plain networks nor the members again."""
    folder, printed, before = run
    after = {row["id"]: row for row in json.loads((folder / "out/mnist-quick.json").read_bytes())["rows"]}
    assert all(after[row["id"]] == row for row in before["rows"])
    assert "of 18 rows to make; all of them take about " in printed
    assert "plain: " not in printed
    assert len(list(folder.glob("runs/reproduce-mnist-*/members-*.safetensors"))) == 1


def test_a_shift_chosen_on_the_test_is_never_worse_than_none(run):
    """That is what is wrong with it."""
    folder, _, _ = run
    rows = {row["id"]: row for row in json.loads((folder / "out/mnist-quick.json").read_bytes())["rows"]}
    for name in ("no_threes", "sevens_eights"):
        pairs = zip(rows[f"{name}_paper_bias"]["values"], rows[name]["values"], strict=True)
        assert all(repaired <= plain for repaired, plain in pairs)


def test_the_table_and_the_plot_are_written(run):
    """Rows in Markdown, temperatures as a grid, and their picture."""
    folder, _, _ = run
    text = (folder / "out/mnist-quick.md").read_text()
    assert all(f"| `{name}` |" in text for name in WANTED)
    assert "| width | T = 1 | T = 20 |" in text
    assert (folder / "out/mnist-quick-temperature.png").stat().st_size > 1000


def test_a_row_that_there_is_not_is_told(run):
    """With those that there are."""
    folder, _, _ = run
    done = reproduce(folder, "--rows", "plane")
    assert done.returncode == 2
    assert "no row 'plane'; there are: plain, teacher, ensemble_10, " in done.stderr


def test_matching_the_prior_finds_the_biases_that_were_taken_away():
    """Logits of a calibrated model, its biases moved: the shifts bring them back, up to a constant."""
    logits = RANDOM.normal(0.0, 2.0, (4000, 5))
    prior = special.softmax(logits, axis=1).mean(axis=0)
    taken = np.array([0.0, -3.5, 1.0, 0.0, -7.6])
    found = prior_shifts(logits + taken, prior)
    np.testing.assert_allclose(found - found[0], -(taken - taken[0]), atol=1e-4)


def test_a_calibrated_model_needs_no_shift():
    """Its mean prediction is the prior already."""
    logits = RANDOM.normal(0.0, 2.0, (500, 4))
    np.testing.assert_allclose(prior_shifts(logits, special.softmax(logits, axis=1).mean(axis=0)), 0.0, atol=1e-5)


def test_the_best_shift_worked_by_hand():
    """Class 1 lacks 2.5: with 2 one example is still wrong, with 3 none, with 9 all of class 0."""
    logits = np.array([[5.0, 0.0], [4.0, 2.0], [2.5, 0.0], [5.0, 2.5]])
    labels = np.array([0, 1, 1, 1])
    assert best_shift(logits, labels, [1], [0.0, 2.0, 3.0, 9.0]) == 3.0
    assert shifted(logits, [1], 3.0)[1].tolist() == [4.0, 5.0]
    assert logits[1].tolist() == [4.0, 2.0]


ROW = Row("plain", "a network", "test_errors", 146, None, [150.0, 140.0], "validation", 12.0, {})


def test_rows_come_back_from_their_file(tmp_path):
    """And a damaged file is told, not overwritten."""
    path = tmp_path / "mnist.json"
    assert read_results(path) is None
    made = Results("a command", "a Z80", [ROW])
    write_rows(path, made)
    assert read_results(path) == made
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(RunError, match=r"mnist\.json is damaged .*; move it away to begin anew"):
        read_results(path)


def test_a_row_in_the_table_has_mean_spread_and_seeds():
    """Beside the paper's figure."""
    text = markdown(Results("a command", "a Z80", [ROW]), "a-plot.png")
    assert "| `plain` | a network | 146 |  | 145.0 ± 7.1 [2] | validation | 12 s |" in text
    assert "Test errors out of 10,000, mean" in text


def test_a_quick_run_does_not_speak_of_ten_thousand_examples():
    text = markdown(Results("python -m trainer reproduce mnist --quick", "a Z80", [ROW]), "a-plot.png")
    assert "Test errors out of the few examples of a quick run, mean" in text
