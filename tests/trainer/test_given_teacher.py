"""A stranger's own ensemble, as ONNX, becomes a served, compared student with one short recipe."""

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.numpy import load_file
from skl2onnx import to_onnx
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier
from torch import nn

from service.manifest import GRAPH, read_manifest
from service.model import load_model
from tests.trainer.conftest import trainer_here
from trainer.data import load_data
from trainer.display import Display
from trainer.ensemble import Single
from trainer.evaluate import Contender
from trainer.export import export
from trainer.models import proof_inputs, reduced_students
from trainer.recipe import Recipe, StudentTable
from trainer.stages import Workshop

CPU = torch.device("cpu")

RECIPE = """\
data = "wine.npz"
teacher = "forest.onnx"

[student]
hidden = [8]
epochs = 60
learning_rate = 1e-2
reduced = ["int8", "fp16"]
allowed_drop = 6.0
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run that was taught by a random forest."""
    folder = tmp_path_factory.mktemp("forest")
    wine = load_wine()
    inputs = wine.data.astype(np.float32)
    np.savez(folder / "wine.npz", inputs=inputs, labels=wine.target, classes=wine.target_names)
    forest = RandomForestClassifier(20, random_state=0).fit(inputs, wine.target_names[wine.target])
    (folder / "forest.onnx").write_bytes(to_onnx(forest, inputs[:1]).SerializeToString())
    (folder / "wine.toml").write_text(RECIPE)
    done = trainer_here("train", "wine.toml", "--models-dir", "models", "--runs-dir", "runs", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "stdout").write_text(done.stdout)
    return folder, forest, inputs


def test_the_forest_is_published_as_the_ensemble(run):
    """With a manifest like the others, and its own answers."""
    folder, forest, inputs = run
    model = load_model(folder / "models/wine-ensemble/1", device="cpu")
    assert (model.manifest.role, model.manifest.seeds) == ("ensemble", ())
    np.testing.assert_allclose(model.run(inputs).probabilities_BK, forest.predict_proba(inputs), atol=1e-5)


def test_the_students_soft_targets_are_the_forests_answers(run):
    """log p over the training examples, which no member was trained for."""
    folder, _, _ = run
    (file,) = folder.glob("runs/wine-*/soft-targets/view-0000/*.safetensors")
    assert not list(folder.glob("runs/wine-*/members*"))
    targets = np.exp(load_file(file)["log_probabilities"])
    np.testing.assert_allclose(targets * 20, np.round(targets * 20), atol=0.5)
    assert targets.shape == (106, 3)


def test_the_student_names_its_teacher(run):
    """By the SHA-256 of the published graph."""
    folder, _, _ = run
    student = read_manifest(folder / "models/wine-student/1")
    ensemble = read_manifest(folder / "models/wine-ensemble/1")
    assert student.teacher is not None
    assert student.teacher.sha256 == ensemble.files[GRAPH].sha256
    assert student.metrics.accuracy > 0.8


def test_there_is_no_row_of_members_and_none_is_published(run):
    """There are none."""
    folder, _, _ = run
    printed = (folder / "stdout").read_text()
    assert "\nstudent " in printed
    assert not (folder / "models/wine-member").exists()
    assert "a member" not in printed.replace("a member: the mean over all", "")


@pytest.mark.parametrize("kind", ["int8", "fp16"])
def test_reduced_students_are_published_beside_it(run, kind):
    """With their own graph and figures, and the same teacher."""
    folder, _, inputs = run
    student, small = (
        load_model(folder / f"models/wine-{name}/1", device="cpu") for name in ("student", f"student-{kind}")
    )
    assert small.manifest.role == "student"
    assert small.manifest.teacher == student.manifest.teacher
    assert small.manifest.files[GRAPH].sha256 != student.manifest.files[GRAPH].sha256
    agree = small.run(inputs).logits_BK.argmax(axis=1) == student.run(inputs).logits_BK.argmax(axis=1)
    assert agree.mean() > 0.9
    assert f"\nstudent-{kind} " in (folder / "stdout").read_text()


def test_a_reduced_student_that_collapses_is_not_published(run):
    """The rest is, and why it is missing is told."""
    folder, _, _ = run
    path = folder / "runs" / "none"
    shop = Workshop(
        path, load_data(Recipe(name="w", data="wine.npz"), folder, None), None, None, CPU, Display(Console())
    )
    weights = torch.tensor([[1e9, *[0.0] * 12], *[[0.0, 1e-9, *[1e-9] * 11]] * 2])
    network = nn.Linear(13, 3)
    network.load_state_dict({"weight": weights, "bias": torch.zeros(3)})
    made = export(Single(network), proof_inputs(shop.split))
    recipe = Recipe(name="w", data="wine.npz", student=StudentTable(reduced=("fp16",)))
    with shop.display.console.capture() as told:
        assert reduced_students(recipe, shop, Contender("student", made, [0], [])) == []
    assert "w-student-fp16 is not published: " in told.get()


def test_a_published_model_teaches_too(run):
    """Its version folder is named; another data set's classes are refused."""
    folder, _, _ = run
    (folder / "again.toml").write_text(RECIPE.replace("forest.onnx", "models/wine-ensemble/1"))
    done = trainer_here("train", "again.toml", "--models-dir", "again", "--runs-dir", "runs", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "digits.toml").write_text('data = "digits"\nteacher = "models/wine-ensemble/1"\n')
    done = trainer_here("train", "digits.toml", "--models-dir", "again", "--runs-dir", "runs", cwd=folder)
    assert done.returncode == 2
    assert "teacher wine-ensemble/1 has the classes class_0, class_1, class_2, expected the data's: 0, 1" in done.stderr


def test_a_folder_without_a_manifest_is_told_what_a_teacher_is(tmp_path):
    (tmp_path / "models" / "some-ensemble" / "1").mkdir(parents=True)
    (tmp_path / "mine.toml").write_text('data = "digits"\nteacher = "models/some-ensemble"\n')
    done = trainer_here("train", "mine.toml", "--runs-dir", "runs", cwd=tmp_path)
    assert done.returncode == 2
    assert "some-ensemble: no manifest.json in it, expected a version folder such as NAME/1" in done.stderr


def test_a_teacher_that_is_not_there_is_told(run):
    """In one line."""
    folder, _, _ = run
    (folder / "gone.toml").write_text(RECIPE.replace("forest", "gone"))
    done = trainer_here("train", "gone.toml", "--models-dir", "gone", "--runs-dir", "runs", cwd=folder)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "gone.onnx" in done.stderr
