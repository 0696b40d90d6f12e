"""python -m trainer cascade: a rule chosen on validation, by numpy's word, and a student published anew with it."""

import json
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special

from service.cascade import Cascade
from service.library import Library
from service.manifest import GRAPH, DataReference, ImageSpec, read_manifest, write_manifest
from service.model import load_model
from tests.repositories import DIGITS, examples, known_logits, write_model
from tests.trainer.conftest import contents, trainer_here
from trainer.data import load_data
from trainer.deferral import Choice, Costs, Cut, all_cuts, cells, choose, fit_temperature, table
from trainer.errors import TrainerError
from trainer.publish import triton_config
from trainer.published import find_asked, find_student
from trainer.recipe import Recipe

INPUTS, LABELS = examples(600)
PARTS = np.repeat([0, 1, 2], [100, 400, 100])
VALIDATION, RIGHT = INPUTS[PARTS == 1], LABELS[PARTS == 1]
STUDENT, ENSEMBLE = (known_logits(VALIDATION, seed=seed) for seed in (1, 0))
STUDENT_RIGHT, ENSEMBLE_RIGHT = (logits.argmax(axis=1) == RIGHT for logits in (STUDENT, ENSEMBLE))
RECIPE = Recipe(name="mine", data="mine.npz")


class Home(NamedTuple):
    """A folder with data and an ensemble and its student, which were trained on them as far as their manifests say."""

    folder: Path
    ensemble: Path
    student: Path

    def cascade(self, *arguments: str):
        return trainer_here("cascade", *arguments, cwd=self.folder)


@pytest.fixture
def home(tmp_path) -> Home:
    np.savez(tmp_path / "mine.npz", inputs=INPUTS, labels=LABELS, classes=np.array(DIGITS), split=PARTS)
    models = tmp_path / "models"
    ensemble = write_model(models, "mine-ensemble", role="ensemble", seed=0)
    student = write_model(models, "mine-student", seed=1, teacher=ensemble)
    split = load_data(RECIPE, tmp_path, None)
    for folder, cost in ((ensemble, 6400), (student, 640)):
        data = DataReference(name="mine", sha256=split.sha256())
        changes = {"recipe": RECIPE.model_dump(mode="json"), "data": data, "multiply_accumulates": cost}
        write_manifest(folder, read_manifest(folder).model_copy(update=changes))
    (student.parent / "config.pbtxt").write_text(triton_config("mine-student", (8, 8), 10))
    return Home(tmp_path, ensemble, student)


def nll(logits: NDArray, labels: NDArray, temperature: float) -> float:
    return float(-special.log_softmax(logits / temperature, axis=1)[np.arange(len(labels)), labels].mean())


def accuracy_of(threshold: float, temperature: float) -> tuple[int, float]:
    """How many rows a cascade defers on validation and how accurate it is, once more."""
    deferred = special.softmax(STUDENT / temperature, axis=1).max(axis=1) < threshold
    return int(deferred.sum()), float(np.where(deferred, ENSEMBLE_RIGHT, STUDENT_RIGHT).mean())


def test_the_temperature_has_the_smallest_nll():
    """Of a fine grid none is better; logits three times as large want three times the temperature."""
    found = fit_temperature(STUDENT, RIGHT)
    best = min(nll(STUDENT, RIGHT, temperature) for temperature in np.geomspace(0.05, 20, 2000))
    assert nll(STUDENT, RIGHT, found) <= best + 1e-9
    assert fit_temperature(3 * STUDENT, RIGHT) == pytest.approx(3 * found, rel=1e-3)


def test_labels_drawn_at_a_temperature_give_it_back():
    """Within what 20,000 draws allow."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 4, (20_000, 5))
    labels = (special.softmax(logits / 2.5, axis=1).cumsum(axis=1) < random.random((20_000, 1))).sum(axis=1)
    assert fit_temperature(logits, labels) == pytest.approx(2.5, rel=0.05)


def test_a_student_without_errors_has_the_lowest_temperature():
    """There is no minimum; the search ends at its end."""
    assert fit_temperature(STUDENT, STUDENT.argmax(axis=1)) == pytest.approx(0.05, rel=0.01)


def test_every_cut_is_what_its_threshold_does():
    """Counted anew for each; all shares from none to all, each once."""
    confidence = special.softmax(STUDENT, axis=1).max(axis=1)
    cuts = all_cuts(confidence, STUDENT_RIGHT, ENSEMBLE_RIGHT)
    assert [cut.deferred for cut in cuts] == list(range(401))
    for cut in cuts:
        deferred, accuracy = accuracy_of(cut.threshold, 1.0)
        assert (deferred, accuracy) == (cut.deferred, pytest.approx(cut.right / 400))


def test_equals_stay_together_and_certainty_is_never_deferred():
    """By hand: confidences of 0.5 twice, of neighbouring numbers, and of 1 exactly."""
    above = np.nextafter(0.7, 1.0)
    confidence = np.array([1.0, 0.5, above, 0.5, 0.7])
    student, ensemble = np.array([1, 0, 0, 0, 1], dtype=bool), np.array([0, 1, 1, 0, 1], dtype=bool)
    assert all_cuts(confidence, student, ensemble) == [
        Cut(0.0, 0, 2),
        Cut(0.6, 2, 3),
        Cut(above, 3, 3),
        Cut((above + 1) / 2, 4, 4),
    ]


@pytest.mark.parametrize("max_loss", [0.0, 2.0, 5.0, 10.0, 50.0])
def test_the_smallest_share_is_chosen(max_loss: float):
    """That keeps within the loss; with one row less deferred it would not."""
    confidence = special.softmax(STUDENT, axis=1).max(axis=1)
    found = choose(confidence, STUDENT_RIGHT, ENSEMBLE_RIGHT, max_loss)
    order = np.argsort(confidence)
    below = [
        100 * (ENSEMBLE_RIGHT.mean() - np.r_[ENSEMBLE_RIGHT[order[:k]], STUDENT_RIGHT[order[k:]]].mean())
        for k in range(401)
    ]
    assert found.cut.deferred == next(k for k in range(401) if below[k] <= max_loss + 1e-9)
    assert (found.student, found.ensemble) == (STUDENT_RIGHT.sum(), ENSEMBLE_RIGHT.sum())


def test_a_loss_that_no_threshold_keeps_to_is_told():
    """A student that is wholly sure of its errors."""
    confidence, wrong, right = np.ones(4), np.zeros(4, dtype=bool), np.ones(4, dtype=bool)
    text = (
        r"^no threshold keeps within 50 points of the ensemble's 100\.00%: the student is wholly sure of 4 of 4 "
        r"validation examples, and the best cascade reaches 0\.00%$"
    )
    with pytest.raises(TrainerError, match=text):
        choose(confidence, wrong, right, 50.0)


def test_a_line_of_the_table_by_hand():
    """Ten of a hundred deferred, at a tenth of the ensemble's cost a row and one of 0.5 ms."""
    choice = Choice(Cut(0.5, 10, 97), [Cut(0.0, 0, 95), Cut(0.5, 10, 97), Cut(1.0, 100, 98)], 100, 95, 98)
    found = cells(choice.cut, choice, Costs(100, 0.01), Costs(1000, 0.5))
    assert found == ("* 0.5000", "10.0%", "97.00%", "95.00%", "98.00%", "1.00", "20.0%", "0.0600")
    assert cells(choice.cuts[0], choice, Costs(100, None), Costs(1000, 0.5))[-2:] == ("10.0%", "")
    assert table(choice, Costs(100, None), Costs(1000, None)).row_count == 3


def test_the_student_is_published_anew_with_the_rule_and_served(home):
    """The same files, byte for byte, and a rule that keeps its word when the service runs it."""
    before = contents(home.folder / "models")
    done = home.cascade("mine-student", "--max-loss", "3")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("asked as mine-cascade\npublished in models: mine-student/2\n")
    after = contents(home.folder / "models")
    new = {name: raw for name, raw in after.items() if "/2/" in name}
    assert {name: raw for name, raw in after.items() if name not in new} == before
    for name in (GRAPH, "held-out.npz", "train-hashes.npy"):
        assert new[f"mine-student/2/{name}"] == before[f"mine-student/1/{name}"]
    old, manifest = (read_manifest(home.student.parent / version) for version in "12")
    changes = {"version": 2, "created": manifest.created, "cascade": manifest.cascade}
    assert manifest == old.model_copy(update=changes)
    assert manifest.created > old.created
    rule = manifest.cascade
    assert (rule.name, rule.version, rule.sha256) == ("mine-ensemble", 1, old.teacher.sha256)
    deferred, accuracy = accuracy_of(rule.threshold, rule.temperature)
    assert 0 < deferred < 400
    assert 100 * (ENSEMBLE_RIGHT.mean() - accuracy) <= 3 + 1e-9
    assert rule.temperature == pytest.approx(fit_temperature(STUDENT, RIGHT), rel=1e-3)
    library = Library(home.folder / "models", device="cpu")
    library.scan()
    cascade = library.get("mine-cascade")
    assert isinstance(cascade, Cascade)
    assert cascade.deferred(VALIDATION).sum() == deferred
    assert (cascade.run(VALIDATION).logits_BK.argmax(axis=1) == RIGHT).mean() == accuracy


def test_it_prints_what_the_rule_costs_and_brings(home):
    """The chosen line is marked; the paired interval is of the examples on which one alone is right."""
    done = home.cascade("mine-student/1", "--max-loss", "3")
    lines = done.stdout.splitlines()
    rule = read_manifest(home.student.parent / "2").cascade
    deferred, accuracy = accuracy_of(rule.threshold, rule.temperature)
    (chosen,) = (line.split() for line in lines if line.lstrip().startswith("*"))
    assert chosen[:5] == [
        "*",
        f"{rule.threshold:.4f}",
        f"{deferred / 400:.1%}",
        f"{accuracy:.2%}",
        f"{STUDENT_RIGHT.mean():.2%}",
    ]
    assert chosen[7] == f"{0.1 + deferred / 400:.1%}"
    mask = special.softmax(STUDENT / rule.temperature, axis=1).max(axis=1) < rule.threshold
    right = np.where(mask, ENSEMBLE_RIGHT, STUDENT_RIGHT)
    better, worse = int((right & ~ENSEMBLE_RIGHT).sum()), int((~right & ENSEMBLE_RIGHT).sum())
    assert f"right alone on {better} examples, wrong alone on {worse};" in done.stdout
    assert f"defers {deferred} of 400 validation examples\n" in done.stdout


def test_the_student_may_be_told_to_ask_another_model(home):
    """Than its teacher, which need not even be there; the loss is measured against that one."""
    other = write_model(home.folder / "models", "other", 3, role="specialists", seed=5)
    change(other, data=json.loads((home.student / "manifest.json").read_text())["data"])
    shutil.rmtree(home.ensemble.parent)
    assert home.cascade("mine-student", "--max-loss", "100", "--ask", "other/3").returncode == 0
    rule = read_manifest(home.student.parent / "2").cascade
    assert (rule.name, rule.version) == ("other", 3)
    for ask, told in (
        ("nope", "unknown model 'nope'; available in models: mine-student, other"),
        (
            "mine-student/1",
            "mine-student/2 cannot ask mine-student/1: both have the same graph, expected another model",
        ),
    ):
        done = home.cascade("mine-student", "--max-loss", "1", "--ask", ask)
        assert (done.returncode, done.stderr) == (2, f"trainer: {told}\n")


@pytest.mark.parametrize(
    ("other", "text"),
    [
        ({"classes": "ab"}, "its classes are ['a', 'b'], expected ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']"),
        ({"shape": (4, 4)}, "its inputs have shape [4, 4], expected [8, 8]"),
        (
            {"image": ImageSpec(range=(16.0, 0.0), margin=0.1)},
            "its image is range=(16.0, 0.0) margin=0.1, expected range=(0.0, 16.0) margin=0.0",
        ),
        ({"image": None}, "its image is None, expected range=(0.0, 16.0) margin=0.0"),
    ],
)
def test_a_model_that_takes_or_knows_other_things_is_not_asked(tmp_path, other, text):
    """Both are named, with what is other and what was expected."""
    student = load_model(write_model(tmp_path, "mine-student"), device="cpu")
    write_model(tmp_path, "other", 3, role="ensemble", seed=5, **other)
    with pytest.raises(TrainerError, match=f"^{re.escape(f'mine-student/1 cannot ask other/3: {text}')}$"):
        find_asked(tmp_path, student, "other")


def test_a_model_of_other_data_is_not_asked(home):
    """Of the same examples in other parts, say: it may have learnt those that the student is judged on."""
    student = find_student(home.folder / "models", "mine-student")
    write_model(home.folder / "models", "other", 3, role="ensemble", seed=5)
    text = (
        r"^mine-student/1 cannot ask other/3: it was trained on 'random' with SHA-256 [0-9a-f]{12}…, expected 'mine' "
        r"with [0-9a-f]{12}…: it may have learnt the validation examples that choose the rule$"
    )
    with pytest.raises(TrainerError, match=text):
        find_asked(home.folder / "models", student, "other")


def test_a_loss_that_the_student_keeps_to_by_itself_defers_nothing(home):
    """And says so; the newest version is the one with the rule, and may be given another."""
    done = home.cascade("mine-student", "--max-loss", "100")
    assert "defers 0 of 400 validation examples: the student alone is accurate enough" in done.stdout
    assert read_manifest(home.student.parent / "2").cascade.threshold == 0.0
    assert home.cascade("mine-student", "--max-loss", "0").stdout.endswith("mine-student/3\n")
    assert read_manifest(home.student.parent / "3").cascade.threshold > 0.5


def test_the_newest_version_is_by_its_creation(home):
    """One that cannot be read is none; the recipe's paths may lie elsewhere."""
    (home.folder / "elsewhere").mkdir()
    shutil.move(home.folder / "mine.npz", home.folder / "elsewhere")
    (home.student.parent / "7").mkdir()
    done = home.cascade("mine-student", "--max-loss", "5", "--recipe-dir", "elsewhere")
    assert done.stdout.endswith("mine-student/8\n")


def change(folder: Path, **values: object) -> None:
    """Of a manifest on disk."""
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def other_teacher(home: Home) -> None:
    shutil.rmtree(home.ensemble.parent)
    write_model(home.folder / "models", "mine-ensemble", role="ensemble", seed=5)


def other_classes(home: Home) -> None:
    shutil.rmtree(home.ensemble.parent)
    ensemble = write_model(home.folder / "models", "mine-ensemble", role="ensemble", classes=DIGITS[::-1])
    sha256 = read_manifest(ensemble).files[GRAPH].sha256
    change(home.student, teacher={"name": "mine-ensemble", "version": 1, "sha256": sha256})


def other_data(home: Home) -> None:
    np.savez(home.folder / "mine.npz", inputs=INPUTS, labels=LABELS[::-1], classes=np.array(DIGITS), split=PARTS)


@pytest.mark.parametrize(
    ("model", "spoil", "text"),
    [
        ("nope", None, "unknown model 'nope'; available in models: mine-ensemble, mine-student"),
        ("mine-student/7", None, "unknown version '7' of mine-student; available: 1"),
        ("mine-student/", None, "unknown version '' of mine-student; available: 1"),
        ("../mine-student", None, "unknown model '..'; available in models: mine-ensemble, mine-student"),
        ("mine-ensemble", None, "mine-ensemble/1 is of the role 'ensemble', expected a student"),
        (
            "mine-student",
            lambda home: change(home.student, teacher=None),
            "mine-student/1 names no teacher that it was distilled from, expected one to ask",
        ),
        (
            "mine-student",
            lambda home: shutil.rmtree(home.ensemble),
            "mine-ensemble/1: cannot read manifest.json: No such file or directory",
        ),
        ("mine-student", other_teacher, "mine-ensemble/1 is not the teacher that mine-student/1 was distilled from: "),
        (
            "mine-student",
            other_classes,
            "mine-student/1 cannot ask mine-ensemble/1: its classes are ['9', '8', ",
        ),
        (
            "mine-student",
            lambda home: (home.student / GRAPH).write_bytes(b"other"),
            "mine-student/1: model.onnx does not match its manifest: SHA-256 ",
        ),
        (
            "mine-student",
            lambda home: (home.student / "held-out.npz").write_bytes(b"other"),
            "mine-student/1: held-out.npz does not match its manifest: SHA-256 ",
        ),
        (
            "mine-student",
            lambda home: change(home.student, recipe={"name": "linear"}),
            "mine-student/1: the recipe in its manifest is none, so its validation examples cannot be found again: "
            "data: Field required",
        ),
        (
            "mine-student",
            lambda home: (home.folder / "mine.npz").unlink(),
            "mine-student/1: its validation examples are not at hand: no data at mine.npz: expected an .npz file ",
        ),
        ("mine-student", other_data, "mine-student/1: the data 'mine.npz' have SHA-256 "),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_published(home, model, spoil, text):
    """In one line, that names the model."""
    if spoil:
        spoil(home)
    before = contents(home.folder / "models")
    done = home.cascade(model, "--max-loss", "1")
    assert done.returncode == 2
    assert done.stderr.startswith(f"trainer: {text}")
    assert len(done.stderr.splitlines()) == 1
    assert contents(home.folder / "models") == before


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--max-loss", "101"], "argument --max-loss: '101' is not a number of points, 0 to 100"),
        (["--max-loss", "-1"], "argument --max-loss: '-1' is not a number of 0 or more"),
        (["--max-loss", "much"], "argument --max-loss: 'much' is not numbers with commas between them"),
        ([], "the following arguments are required: --max-loss"),
    ],
)
def test_a_loss_that_is_none_is_told(tmp_path, arguments, text):
    """Before anything is looked for."""
    done = trainer_here("cascade", "mine-student", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert text in done.stderr


def test_a_repository_that_is_not_there_is_told(tmp_path):
    """By its path."""
    done = trainer_here("cascade", "mine-student", "--max-loss", "1", "--models-dir", "gone", cwd=tmp_path)
    assert done.stderr == "trainer: cannot read the model repository gone: No such file or directory\n"
