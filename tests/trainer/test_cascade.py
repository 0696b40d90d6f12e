"""python -m trainer cascade: a rule chosen on validation, by numpy's word, and a student published anew with it."""

import json
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from scipy import special

from service.cascade import Cascade
from service.library import Library
from service.manifest import GRAPH, DataReference, ImageSpec, read_manifest, write_manifest
from service.model import load_model
from tests.repositories import DIGITS, examples, known_logits, write_model
from tests.trainer.conftest import contents, trainer_here
from trainer.data import load_data
from trainer.deferral import fit_temperature
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


def accuracy_of(threshold: float, temperature: float) -> tuple[int, float]:
    """How many rows a cascade defers on validation and how accurate it is, once more."""
    deferred = special.softmax(STUDENT / temperature, axis=1).max(axis=1) < threshold
    return int(deferred.sum()), float(np.where(deferred, ENSEMBLE_RIGHT, STUDENT_RIGHT).mean())


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
