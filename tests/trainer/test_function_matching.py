"""A run whose student learns from numbered views, and from inputs without labels."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file
from scipy import special

from service.manifest import read_manifest
from service.model import load_model
from tests.trainer.conftest import trainer_here

RECIPE = """\
data = "data.npz"
transfer = "more.npz"

[ensemble]
members = 2
hidden = [16]
epochs = 10
learning_rate = 1e-2

[student]
hidden = [16]
epochs = 60
learning_rate = 1e-2
loss = "decoupled"
weighting = "relative"
jitter = 1
mix = true
numbered_views = 3
"""
RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run over stripes: where they are lit, to a pixel, is the class."""
    folder = tmp_path_factory.mktemp("matching")
    images = RANDOM.integers(0, 60, (240, 6, 12), dtype=np.uint8)
    labels = np.arange(240) % 4
    images[np.arange(240), :, 1 + 3 * labels] += 180
    np.savez(folder / "data.npz", inputs=images[:200], labels=labels[:200])
    np.savez(folder / "more.npz", inputs=images[200:])
    (folder / "stripes.toml").write_text(RECIPE)
    done = trainer_here("train", "stripes.toml", "--models-dir", "models", "--runs-dir", "runs", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_view_of_every_example_has_its_soft_targets(run):
    """Three views of the 120 training examples and the 40 without labels, log-probabilities all."""
    files = sorted(run.glob("runs/stripes-*/soft-targets/view-*/*.safetensors"))
    assert [file.parent.name for file in files] == ["view-0000", "view-0001", "view-0002"]
    targets = [load_file(file)["log_probabilities"] for file in files]
    for log_p in targets:
        assert log_p.shape == (160, 4)
        np.testing.assert_allclose(special.logsumexp(log_p, axis=1), 0.0, atol=1e-5)
    assert not np.allclose(targets[0], targets[1])


def test_view_0_are_the_ensembles_answers_to_the_inputs_as_they_are(run):
    """The unlabelled ones stand behind the training examples."""
    ensemble = load_model(run / "models/stripes-ensemble/1", device="cpu")
    with np.load(run / "more.npz") as more:
        expected = special.log_softmax(ensemble.run(more["inputs"].astype(np.float32)).logits_BK, axis=1)
    (file,) = run.glob("runs/stripes-*/soft-targets/view-0000/*.safetensors")
    np.testing.assert_allclose(load_file(file)["log_probabilities"][120:], expected, atol=1e-4)


def test_the_student_says_how_it_was_made(run):
    """The manifest has the weights of the paper's reading and the recipe with its transfer set."""
    manifest = read_manifest(run / "models/stripes-student/1")
    assert manifest.weights is not None
    assert (manifest.weights.soft, manifest.weights.hard) == (1.0, 0.1)
    assert (manifest.recipe["transfer"], manifest.recipe["student"]["loss"]) == ("more.npz", "decoupled")


def test_all_of_them_learn_it(run):
    """Stripes are easy: every model is right on most of the test examples."""
    for role in ("ensemble", "student", "baseline"):
        assert read_manifest(run / f"models/stripes-{role}/1").metrics.accuracy > 0.8


def test_another_transfer_set_is_another_run(run, tmp_path):
    """Resuming never takes a student for one that learnt from other inputs."""
    with np.load(run / "more.npz") as more:
        np.savez(tmp_path / "more.npz", inputs=more["inputs"][:30])
    for name in ("data.npz", "stripes.toml"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    options = ("--models-dir", tmp_path / "models", "--runs-dir", run / "runs", "--resume")
    done = trainer_here("train", tmp_path / "stripes.toml", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no run of this recipe, seed, data and device to resume" in done.stdout
    assert len(list((run / "runs").glob("stripes-*/results.json"))) == 2
    published = [
        json.loads(path.read_text())["seeds"] for path in tmp_path.glob("models/stripes-student/*/manifest.json")
    ]
    assert published == [[5000]]
