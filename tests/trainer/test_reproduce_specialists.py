"""The section on specialists made anew: tiny, from the command line, in two goes; and its sums by hand."""

import json
import math

import numpy as np
import pytest

from tests.trainer.conftest import trainer_here
from trainer.data.emnist import SIZES
from trainer.evaluate import share_kept
from trainer.reproduce.gains import Cover, by_cover, conditional_accuracy, relative_gain
from trainer.reproduce.paired import paired
from trainer.reproduce.rows import Results, Row
from trainer.reproduce.specialists_report import markdown, write_report

WANTED = (
    *("generalist", "generalist_longer", "with_specialists", "ensemble_same_cost", "student"),
    *("student_from_generalist", "relative_gain", "gain_kept_by_student"),
)
PLACES = ("--data-dir", "data", "--runs-dir", "runs", "--out", "out", "--device", "cpu")


def pictures(labels):
    """The class is a place and a width: a bar of 1 or 2 columns, so that pairs of classes are alike."""
    images = np.zeros((len(labels), 28, 28), dtype=np.uint8)
    place, wide = np.divmod(labels, 2)
    rows, columns = 4 + 3 * (place // 6), 4 + 3 * (place % 6)
    every = np.arange(len(labels))
    for row in range(3):
        images[every, rows + row, columns] = 250
        images[every, rows + row, columns + 1] = 120 * wide
    return images


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a quick reproduction that was made in two goes, and what the second printed."""
    folder = tmp_path_factory.mktemp("reproduce")
    emnist = folder / "data/emnist"
    emnist.mkdir(parents=True)
    labels = np.arange(sum(SIZES)) % 62
    names = np.array([chr(0x100 + label) for label in range(62)])
    np.savez_compressed(
        emnist / "byclass.npz", images=pictures(labels), labels=labels.astype(np.uint8), characters=names
    )
    np.savez(emnist / "unlabelled.npz", images=pictures(np.arange(124) % 62) // 2)
    command = ("reproduce", "specialists", "--quick", *PLACES)
    first = trainer_here(*command, "--rows", "generalist,with_specialists", cwd=folder)
    assert first.returncode == 0, first.stderr
    second = trainer_here(*command, cwd=folder)
    assert second.returncode == 0, second.stderr
    return folder, second.stdout


def rows_of(folder):
    return {row["id"]: row for row in json.loads((folder / "out/specialists-quick.json").read_bytes())["rows"]}


def test_every_row_is_there_with_a_value_for_each_seed(run):
    """In the form of the other section's."""
    folder, _ = run
    facts = json.loads((folder / "out/specialists-quick.json").read_bytes())
    assert facts["command"] == "python -m trainer reproduce specialists --quick"
    assert facts.keys() == {"command", "hardware", "seconds", "rows"}
    rows = rows_of(folder)
    assert set(rows) == set(WANTED)
    assert {len(row["values"]) for name, row in rows.items() if name != "gain_kept_by_student"} == {2}
    shares = {name for name, row in rows.items() if row["metric"] == "percent"}
    assert shares == {"relative_gain", "gain_kept_by_student"}
    assert rows["relative_gain"]["paper"] == 4.4
    assert rows["gain_kept_by_student"]["goal"] == 80.0


def test_rows_agree_with_each_other(run):
    """Gains are differences of the accuracies; controls cost at least as much as the specialists."""
    folder, _ = run
    rows = rows_of(folder)
    values = {name: np.array(row["values"]) for name, row in rows.items()}
    details = {name: row["details"] for name, row in rows.items()}
    gained = values["with_specialists"] - values["generalist"]
    assert details["with_specialists"]["gain"]["points"][0] == pytest.approx(gained.mean(), abs=1e-3)
    np.testing.assert_allclose(values["relative_gain"], 100 * gained / values["generalist"], rtol=1e-9)
    against = values["with_specialists"] - values["ensemble_same_cost"]
    assert details["ensemble_same_cost"]["gain_of_specialists"]["points"][0] == pytest.approx(against.mean(), abs=1e-3)
    seen, before = details["with_specialists"]["examples_seen"], details["generalist"]["examples_seen"]
    assert details["ensemble_same_cost"]["members"] == [1 + math.ceil(each / before) for each in seen]
    fewer = values["with_specialists"] - np.array(details["ensemble_same_cost"]["one_fewer"])
    over_fewer = details["ensemble_same_cost"]["gain_of_specialists_over_one_fewer"]["points"][0]
    assert over_fewer == pytest.approx(fewer.mean(), abs=1e-3)
    assert details["student"]["transfer_inputs"] == 62 * 10 + 124
    assert max(details["with_specialists"]["largest_error"]) <= 1e-4


def test_finished_rows_stay_and_what_they_trained_is_shared(run):
    """The second go trains neither generalists nor specialists again."""
    folder, printed = run
    assert "of 8 rows to make; all of them take about " in printed
    assert "\ngeneralist: " not in printed
    trained = "runs/reproduce-specialists-*"
    assert len(list(folder.glob(f"{trained}/specialists-*/specialists-*.safetensors"))) == 2


@pytest.mark.parametrize(("name", "trainings"), [("*-generalists", 1), ("longer", 2), ("*-others", 2), ("student", 4)])
def test_what_depends_on_the_seed_is_trained_for_each(run, name, trainings):
    """Generalists train together; what comes of each is by itself, and no two are the same network."""
    folder, _ = run
    files = list(folder.glob(f"runs/reproduce-specialists-*/{name}-*.safetensors"))
    assert len(files) == trainings
    assert len({file.read_bytes() for file in files}) == trainings


def test_the_tables_and_the_plot_are_written(run):
    """Rows, paired differences, the paper's Tables 3 and 4, the groups."""
    folder, _ = run
    text = (folder / "out/specialists-quick.md").read_text()
    assert all(f"| `{name}` |" in text for name in WANTED)
    assert "| `with_specialists` | `ensemble_same_cost` |" in text
    assert "| with specialists | 45.9 % |" in text
    assert "| specialists | test examples | generalist | with specialists | relative gain | paper |" in text
    assert (folder / "out/specialists-quick-cover.png").stat().st_size > 1000


def test_a_row_that_there_is_not_is_told(run):
    """With those that there are."""
    folder, _ = run
    done = trainer_here("reproduce", "specialists", "--quick", *PLACES, "--rows", "jft", cwd=folder)
    assert done.returncode == 2
    assert "no row 'jft'; there are: generalist, with_specialists, " in done.stderr


def test_conditional_accuracy_worked_by_hand():
    """Among 0 and 1 two of three are right, among 1 and 2 both of two, though class 3 is the most probable."""
    log_q = np.log([[0.2, 0.1, 0.1, 0.6], [0.3, 0.1, 0.1, 0.5], [0.4, 0.3, 0.1, 0.2], [0.1, 0.1, 0.2, 0.6]])
    labels = np.array([0, 0, 1, 2])
    assert conditional_accuracy(log_q, labels, [(0, 1)]) == pytest.approx(200 / 3)
    assert conditional_accuracy(log_q, labels, [(0, 1), (1, 2)]) == pytest.approx(80)
    assert math.isnan(conditional_accuracy(log_q, labels, [(3,)]))


def test_gains_by_cover_worked_by_hand():
    """Class 0 has no specialist, class 1 one, class 2 two."""
    labels = np.array([0, 1, 1, 2, 2, 2])
    before = np.array([True, True, False, True, False, False])
    after = np.array([True, True, True, True, True, False])
    covers = by_cover(before, after, labels, [(1, 2), (2,)])
    assert covers == [Cover(0, 1, 100.0, 100.0), Cover(1, 2, 50.0, 100.0), Cover(2, 3, *covers[2][2:])]
    assert [cover.relative_gain for cover in covers] == pytest.approx([0.0, 100.0, 100.0])
    assert Cover(1, 5, 0.0, 20.0).relative_gain is None
    assert relative_gain(26.1, 25.0) == pytest.approx(4.4)


def test_a_paired_interval_is_that_of_mcnemar_without_ties():
    """Of one seed its half width is 1.96 sqrt(b + c - (b - c)^2 / n) / n, b and c being where just one is right."""
    random = np.random.default_rng(0)
    mine, theirs = random.random((2, 1, 400)) < 0.7
    b, c, total = (mine & ~theirs).sum(), (theirs & ~mine).sum(), 400
    found = paired(mine, theirs)
    half = 1.96 * math.sqrt(b + c - (b - c) ** 2 / total) / total
    assert found.value == pytest.approx((b - c) / total)
    assert (found.low, found.high) == pytest.approx(((b - c) / total - half, (b - c) / total + half))
    assert not paired(mine, mine).shown


def test_several_seeds_count_each_example_once():
    """The same seed twice says no more than once."""
    random = np.random.default_rng(1)
    mine, theirs = random.random((2, 1, 50)) < 0.7
    assert paired(mine, theirs) == paired(np.repeat(mine, 2, axis=0), np.repeat(theirs, 2, axis=0))


def test_a_share_of_the_mean_gains_of_seeds_worked_by_hand():
    """With gains of halves and wholes: 1.5 of 2 are kept; its interval is that of the delta method, nearly."""
    student, combined = np.zeros(1000), np.zeros(1000)
    combined[:30], combined[30:50] = 1.0, 0.5
    student[:20], student[20:50], student[50] = 1.0, 0.5, -1.0
    found = share_kept(student, combined)
    assert found.value == pytest.approx(34 / 40)
    half = 1.96 * (student - found.value * combined).std() / combined.mean() / math.sqrt(1000)
    assert found.interval.low == pytest.approx(found.value - half, abs=0.03)
    assert found.interval.high == pytest.approx(found.value + half, abs=0.03)
    assert share_kept(combined, combined).interval == (1.0, 1.0)


KEPT = {"together": [62.0, 41.0, 83.0], "beats_student_from_generalist": False, "seeds_without_gain": 1}


def test_no_share_is_claimed_where_the_control_is_not_beaten():
    """The table says so, and says where there was no gain to keep."""
    row = Row("gain_kept_by_student", "kept", "percent", None, 80.0, [], "validation", 1.0, KEPT)
    text = markdown(Results("a command", "a Z80", [row]), "specialists")
    assert "| `gain_kept_by_student` | kept |  | 80 | none | 1 s |" in text
    assert "`student` is not shown to beat `student_from_generalist`" in text
    assert "Of all seeds together, the student keeps 62 % of the gain [41, 83]." in text
    assert "Seeds in which specialists gain nothing that is shown: 1." in text


def test_rows_of_the_wider_generalist_have_a_section_of_their_own(run, tmp_path):
    """With their plot; and a row without those that it was made from is shown too."""
    folder, _ = run
    facts = rows_of(folder)["with_specialists"]
    rows = [Row(**{**facts, "id": "wide_with_specialists", "title": "wider"})]
    write_report(tmp_path / "specialists", Results("a command", "a Z80", rows))
    text = (tmp_path / "specialists.md").read_text()
    assert "## wider" in text
    assert "(specialists-wide_cover.png)" in text
    assert (tmp_path / "specialists-wide_cover.png").stat().st_size > 1000


def test_quick_rows_are_not_taken_for_full_ones(run):
    """They are in files of their own."""
    folder, _ = run
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "specialists-quick-cover.png",
        "specialists-quick.json",
        "specialists-quick.md",
    ]
