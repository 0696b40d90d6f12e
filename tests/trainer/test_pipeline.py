"""A tiny recipe from its data to published models, and everything that a run leaves behind."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file
from scipy import special

from service.held_out import input_hashes
from service.manifest import read_manifest
from service.model import Model, load_model
from tests.trainer.conftest import Run, contents
from trainer.__main__ import main
from trainer.data.digits import load_digits
from trainer.data.split import Shares, Split
from trainer.errors import RunError
from trainer.models import read_record
from trainer.recipe import read_recipe
from trainer.views import affine_views

NAMES = ("tiny-ensemble", "tiny-member", "tiny-baseline", "tiny-student")
PLOTS = ("accuracy-size.png", "reliability.png", "soft-targets.png")


def model(run: Run, name: str) -> Model:
    return load_model(run.models / name / "1", device="cpu")


@pytest.fixture(scope="module")
def split() -> Split:
    return load_digits(Shares(0.2, 0.2, 0))


def test_it_prints_its_stages_the_table_and_what_it_published(published):
    """And nothing on stderr."""
    lines = published.stdout.splitlines()
    for stage in (
        "data",
        "members",
        "teacher",
        "soft targets",
        "student",
        "baseline",
        "export",
        "test",
        "publish",
        "plots",
    ):
        assert f"{stage} …" in lines
    for row in ("ensemble", "a member", "baseline", "student"):
        assert any(line.startswith(f"{row} ") for line in lines)
    assert lines[-1] == "published in models: tiny-ensemble/1, tiny-member/1, tiny-baseline/1, tiny-student/1"
    assert lines[-2] == f"results and plots: runs/{published.folder.name}"
    assert published.stderr == ""


def test_four_models_are_published_and_load(published):
    assert sorted(path.name for path in published.models.iterdir()) == sorted(NAMES)
    for name in NAMES:
        manifest = model(published, name).manifest
        assert manifest.role == name.removeprefix("tiny-")
        assert manifest.recipe == read_recipe(str(published.recipe))[0].model_dump(mode="json")
        assert manifest.classes == tuple("0123456789")
        assert manifest.input.shape == (8, 8)
        assert manifest.largest_difference < 1e-5


def test_the_student_names_its_teacher_temperature_and_weights(published):
    """The others were distilled from nobody."""
    ensemble, member, baseline, student = (read_manifest(published.models / name / "1") for name in NAMES)
    assert student.teacher is not None
    assert (student.teacher.name, student.teacher.version) == ("tiny-ensemble", 1)
    assert student.teacher.sha256 == ensemble.files["model.onnx"].sha256
    assert student.weights is not None
    assert (student.temperature, student.weights.soft, student.weights.hard) == (4.0, 0.9, 0.1)
    for manifest in (ensemble, member, baseline):
        assert (manifest.teacher, manifest.temperature, manifest.weights) == (None, None, None)


def test_the_baseline_is_the_students_network(published):
    """The same size, the same seeds to choose from, the same data."""
    ensemble, _, baseline, student = (read_manifest(published.models / name / "1") for name in NAMES)
    assert baseline.parameters == student.parameters == 65 * 8 + 9 * 10
    assert baseline.multiply_accumulates == student.multiply_accumulates == 64 * 8 + 8 * 10
    assert ensemble.parameters == 2 * (65 * 16 + 17 * 10)
    assert ensemble.data == baseline.data == student.data
    assert ensemble.seeds == (0, 1)
    assert {*baseline.seeds, *student.seeds} <= {5000, 5001}


def test_the_published_member_is_the_first_of_the_ensemble(published, split):
    """By its seed, whatever validation or the test says of it; it answers as the network by itself."""
    manifest = read_manifest(published.models / "tiny-member" / "1")
    assert (manifest.seeds, manifest.parameters) == ((0,), 65 * 16 + 17 * 10)
    tensors = load_file(published.folder / "members-0.safetensors")
    hidden = split.test.inputs.reshape(-1, 64) / 16.0
    hidden = np.maximum(hidden @ tensors["weights.0"][0] + tensors["biases.0"][0], 0)
    expected = special.softmax(hidden @ tensors["weights.1"][0] + tensors["biases.1"][0], axis=1)
    found = model(published, "tiny-member").run(split.test.inputs.astype(np.float32)).probabilities_BK
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("title", ["student", "baseline"])
def test_validation_chose_the_seed_that_is_published(published, title):
    """Of two seeds the one with fewer validation errors; of equals the one with the lower NLL."""
    with safe_open(published.folder / f"{title}-0.safetensors", framework="np") as file:
        facts = json.loads(file.metadata()["facts"])
    best = min((0, 1), key=lambda index: (facts["errors"][index], facts["nll"][index]))
    assert read_manifest(published.models / f"tiny-{title}" / "1").seeds == (5000 + best,)


def test_held_out_and_training_examples_are_those_of_the_split(published, split):
    """The test part travels with each model; no test image is among the training images."""
    for name in NAMES:
        folder = published.models / name / "1"
        with np.load(folder / "held-out.npz", allow_pickle=False) as file:
            np.testing.assert_array_equal(file["inputs"], split.test.inputs)
            np.testing.assert_array_equal(file["labels"], split.test.labels)
            held_out = input_hashes(file["inputs"])
        hashes = np.load(folder / "train-hashes.npy", allow_pickle=False)
        np.testing.assert_array_equal(hashes, input_hashes(split.train.inputs))
        assert not np.isin(held_out, hashes).any()


def test_soft_targets_are_the_published_ensembles_answers(published, split):
    """log p over the training examples and then over one view of each, as the served graph gives them."""
    targets = load_file(published.folder / "soft-targets/view-0000/0000000000.safetensors")["log_probabilities"]
    inputs = split.train.inputs.astype(np.float32)
    inputs = np.concatenate([inputs, affine_views(torch.from_numpy(inputs), 1, 0, 0.0).numpy()])
    expected = model(published, "tiny-ensemble").run(inputs).logits_BK
    np.testing.assert_allclose(targets, expected, atol=1e-4)


def test_the_published_ensemble_is_the_mean_of_the_trained_members(published, split):
    """The networks once more, in numpy from the run's weights."""
    tensors = load_file(published.folder / "members-0.safetensors")
    hidden = split.test.inputs.reshape(-1, 64) / 16.0
    each = []
    for member in range(2):
        first = np.maximum(hidden @ tensors["weights.0"][member] + tensors["biases.0"][member], 0)
        each.append(special.softmax(first @ tensors["weights.1"][member] + tensors["biases.1"][member], axis=1))
    found = model(published, "tiny-ensemble").run(split.test.inputs.astype(np.float32)).probabilities_BK
    np.testing.assert_allclose(found, np.mean(each, axis=0), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_stated_figures_are_those_of_the_served_model(published, name):
    """Errors, NLL and agreement from the graph and its held-out set, in the manifest and in results.json alike."""
    with np.load(published.models / name / "1" / "held-out.npz", allow_pickle=False) as file:
        inputs, labels = file["inputs"].astype(np.float32), file["labels"]
    served = model(published, name)
    log_p = special.log_softmax(served.run(inputs).logits_BK.astype(np.float64), axis=1)
    teacher = model(published, "tiny-ensemble").run(inputs).logits_BK.argmax(axis=1)
    facts = json.loads((published.folder / "results.json").read_bytes())
    rows = {row["role"]: row for row in facts["rows"]} | {"member": facts["member"]}
    row = rows[served.manifest.role]
    metrics = served.manifest.metrics
    assert metrics.examples == row["examples"] == 360
    assert metrics.errors == row["errors"] == (log_p.argmax(axis=1) != labels).sum()
    assert metrics.nll == row["nll"] == pytest.approx(-log_p[np.arange(360), labels].mean(), rel=1e-4)
    agreement = None if name == "tiny-ensemble" else pytest.approx(np.mean(log_p.argmax(axis=1) == teacher))
    assert metrics.agreement == agreement
    assert row["agreement"] == agreement


def test_it_learned(published):
    """A tiny ensemble of tiny members still reads nine digits in ten."""
    assert read_manifest(published.models / "tiny-ensemble" / "1").metrics.accuracy > 0.9


def test_the_runs_folder_holds_results_and_plots(published):
    """Three PNGs, the table as JSON and Markdown; finished stages and no checkpoint of an unfinished one."""
    names = {path.name for path in published.folder.iterdir()}
    assert {*PLOTS, "results.json", "results.md", "soft-targets"} <= names
    assert not [name for name in names if "checkpoint" in name or name.startswith(".")]
    for name in PLOTS:
        with Image.open(published.folder / name) as picture:
            assert picture.format == "PNG"
    facts = json.loads((published.folder / "results.json").read_bytes())
    assert facts["published"] == [f"{name}/1" for name in NAMES]
    assert "| student |" in (published.folder / "results.md").read_text(encoding="utf-8")


class Copy:
    """The published run's folders once more, to do something to them, in this process."""

    def __init__(self, run: Run, folder: Path) -> None:
        self.recipe, self.models, self.runs = run.recipe, folder / "models", folder / "runs"
        shutil.copytree(run.models, self.models)
        shutil.copytree(run.runs, self.runs)

    def train(self, *arguments: str) -> int:
        folders = ["--models-dir", str(self.models), "--runs-dir", str(self.runs), "--device", "cpu"]
        return main(["train", str(self.recipe), *folders, *arguments])

    def graph(self, name: str, version: int) -> bytes:
        return (self.models / name / str(version) / "model.onnx").read_bytes()


@pytest.fixture
def copy(published, tmp_path) -> Copy:
    return Copy(published, tmp_path)


def test_the_same_seed_again_gives_the_same_graphs_as_a_second_version(copy, published, capsys):
    """Bit for bit, in another process than the first time; and the first version stays as it was."""
    assert copy.train() == 0
    assert capsys.readouterr().out.endswith("tiny-ensemble/2, tiny-member/2, tiny-baseline/2, tiny-student/2\n")
    for name in NAMES:
        assert copy.graph(name, 2) == copy.graph(name, 1)
    old = {name: raw for name, raw in contents(copy.models).items() if "/2/" not in name}
    assert old == contents(published.models)


def test_another_seed_gives_other_graphs(copy):
    assert copy.train("--seed", "1") == 0
    for name in NAMES:
        assert copy.graph(name, 2) != copy.graph(name, 1)
        assert min(read_manifest(copy.models / name / "2").seeds) >= 10_000


def test_resuming_a_finished_run_publishes_nothing_new(copy, published, capsys):
    """It trains nothing, writes the results again and names the versions that stand."""
    trained = {path: path.stat().st_mtime_ns for path in copy.runs.rglob("*.safetensors")}
    assert copy.train("--resume") == 0
    assert capsys.readouterr().out.endswith("tiny-ensemble/1, tiny-member/1, tiny-baseline/1, tiny-student/1\n")
    assert contents(copy.models) == contents(published.models)
    assert {path: path.stat().st_mtime_ns for path in copy.runs.rglob("*.safetensors")} == trained


def test_resuming_with_damaged_soft_targets_is_told(copy, capsys):
    """One line, that says which file; nothing is published."""
    (targets,) = copy.runs.rglob("view-0000/*.safetensors")
    targets.write_bytes(targets.read_bytes()[:1000])
    assert copy.train("--resume") == 2
    told = capsys.readouterr().err
    assert told.startswith(f"trainer: {targets} is damaged (")
    assert told.endswith("; run again without --resume\n")
    assert not (copy.models / "tiny-student" / "2").exists()


FEATURES = """\
data = "flowers.npz"

[ensemble]
members = 2
hidden = [8]
mean = "geometric"
epochs = 15
learning_rate = 0.03

[student]
hidden = [4]
epochs = 30
learning_rate = 0.03
"""


def test_features_of_ones_own_go_from_a_file_to_a_served_student(tmp_path, capsys):
    """No images: an .npz of five numbers an example, three classes with names, a recipe of under 15 lines."""
    random = np.random.default_rng(0)
    labels = np.arange(240) % 3
    inputs = random.normal(size=(240, 5)) + 4 * np.eye(5)[labels]
    inputs[:, 4] = 0.1  # a constant feature
    np.savez(tmp_path / "flowers.npz", inputs=inputs, labels=labels, classes=np.array(["iris", "rose", "Mohn, rot"]))
    (tmp_path / "flowers.toml").write_text(FEATURES)
    folders = ["--models-dir", str(tmp_path / "models"), "--runs-dir", str(tmp_path / "runs")]
    assert main(["train", str(tmp_path / "flowers.toml"), *folders]) == 0
    student = load_model(tmp_path / "models" / "flowers-student" / "1", device="cpu")
    assert student.manifest.input.shape == (5,)
    assert student.manifest.input.image is None
    assert student.manifest.classes == ("iris", "rose", "Mohn, rot")
    with np.load(tmp_path / "models" / "flowers-student" / "1" / "held-out.npz", allow_pickle=False) as file:
        answers = student.run(file["inputs"].astype(np.float32)).probabilities_BK
        assert np.mean(answers.argmax(axis=1) == file["labels"]) > 0.9
    (folder,) = (tmp_path / "runs").glob("flowers-seed0-*")
    assert {*PLOTS, "results.json", "results.md"} <= {path.name for path in folder.iterdir()}
    assert "flowers-student/1" in capsys.readouterr().out


def test_networks_beyond_the_memory_are_refused_in_words(tmp_path, monkeypatch, capsys):
    """Not with a traceback of PyTorch's allocator."""
    text = 'data = "digits"\n[ensemble]\nhidden = [1_000_000_000_000]\n'
    (tmp_path / "huge.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert main(["huge.toml", "--runs-dir", str(tmp_path / "runs"), "--device", "cpu"]) == 2
    assert "not enough memory for networks of 64-1000000000000-10; choose smaller" in capsys.readouterr().err


def test_a_damaged_record_of_what_was_published_is_told(tmp_path):
    """Rather than published twice."""
    (tmp_path / "published.json").write_text("{")
    with pytest.raises(RunError, match=r"published\.json is damaged .*; run again without --resume"):
        read_record(tmp_path / "published.json")
