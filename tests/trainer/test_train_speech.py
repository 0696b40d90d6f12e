"""A recipe of recordings from its data to words over HTTP: tunes in place of words, tiny networks, the command line."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from service.held_out import input_hashes
from service.inputs.filterbanks import filterbanks, windows
from service.inputs.hmm import read_word_models
from service.manifest import read_manifest
from tests.recordings import RATE, encoded, tune, write_digits
from tests.repositories import serving
from tests.trainer.conftest import trainer_here
from trainer.speech.corpus import DIGITS

RECIPE = """\
data = "fsdd"

[ensemble]
members = 2
hidden = [64]
epochs = 8
batch_size = 128

[student]
hidden = [32]
epochs = 8
batch_size = 128
temperature = 2.0
"""
KINDS = ("ensemble", "member", "baseline", "student")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a run, and what it printed."""
    folder = tmp_path_factory.mktemp("tunes")
    write_digits(folder / "data", each=4)
    (folder / "tunes.toml").write_text(RECIPE)
    places = ("--data-dir", "data", "--runs-dir", "runs", "--models-dir", "models", "--device", "cpu")
    done = trainer_here("train", "tunes.toml", *places, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_models_speak_of_words_and_their_graphs_of_states(run):
    folder, _ = run
    for kind in KINDS:
        version = folder / f"models/tunes-{kind}/1"
        manifest = read_manifest(version)
        assert manifest.classes == DIGITS
        assert manifest.input.shape == (300, 40)
        assert manifest.metrics.examples == 40
        assert set(manifest.files) == {"model.onnx", "held-out.npz", "train-hashes.npy", "hmm.npz"}
        labels = (folder / f"models/tunes-{kind}/labels.txt").read_text().splitlines()
        assert (len(labels), labels[0], labels[80]) == (81, "silence", "nine 8")
        assert "dims: [ 26, 40 ]" in (folder / f"models/tunes-{kind}/config.pbtxt").read_text()
    scales = [read_word_models((folder / f"models/tunes-{kind}/1/hmm.npz").read_bytes(), kind).scale for kind in KINDS]
    assert len(set(scales)) > 1  # each calibrated by itself


def test_recordings_travel_with_the_models(run):
    """Those of the test speaker, as the service makes them of their files; and hashes of what was trained on."""
    folder, _ = run
    with np.load(folder / "models/tunes-student/1/held-out.npz") as file:
        inputs, labels = file["inputs"], file["labels"]
    frames = filterbanks(tune(0, seed=400, pitch=1.08), RATE, 40)  # the first of the fifth voice
    assert labels.tolist() == sorted([*range(10)] * 4)
    assert np.allclose(inputs[0, : len(frames)], frames, atol=0.05)  # the file has 16 bits
    assert not inputs[0, len(frames) :].any()
    hashes = np.load(io.BytesIO((folder / "models/tunes-student/1/train-hashes.npy").read_bytes()))
    assert len(hashes) == 120
    assert not np.isin(input_hashes(inputs), hashes).any()


async def test_each_kind_of_model_hears_a_file(run):
    """What comes over HTTP is what the graph's answers to the frames make, worked out here."""
    folder, _ = run
    samples = tune(4, seed=1_000)
    async with serving(folder / "models") as client:
        for kind in KINDS:
            name = f"tunes-{kind}"
            answer = await client.post(
                "/predict", files={"audio": encoded(samples, subtype="FLOAT")}, data={"model": name}
            )
            assert answer.json()["labels"] == ["four"]
            assert answer.json()["probabilities"][0] == pytest.approx(
                by_hand(folder / f"models/{name}/1", samples), abs=1e-4
            )
        report = await client.post(
            "/compare", json={"models": ["tunes-student", "tunes-ensemble"], "blocks": 3, "scenarios": []}
        )
        accuracy = {model["name"]: model["accuracy"] for model in report.json()["models"]}
        assert accuracy["tunes-student"] == read_manifest(folder / "models/tunes-student/1").metrics.accuracy
        assert accuracy["tunes-ensemble"] == read_manifest(folder / "models/tunes-ensemble/1").metrics.accuracy


def by_hand(version: Path, samples: np.ndarray) -> np.ndarray:
    """By onnxruntime and one recursion in float64."""
    frames = windows(filterbanks(samples, RATE, 40), 20, 5)
    (logits,) = onnxruntime.InferenceSession(version / "model.onnx").run(["logits"], {"input": frames})
    models = read_word_models((version / "hmm.npz").read_bytes(), "here")
    emissions = logits.astype(np.float64) - models.log_prior
    scores = []
    for chain in models.chains:
        best = np.full(len(chain), -np.inf)
        best[:2] = emissions[0, chain[:2]]
        for emission in emissions[1:]:
            entered = np.concatenate([[-np.inf], (best + models.log_leave[chain])[:-1]])
            best = np.maximum(best + models.log_stay[chain], entered) + emission[chain]
        scores.append(models.scale * best[-2:].max())
    powers = np.exp(np.array(scores) - max(scores))
    return powers / powers.sum()


def test_frames_and_words_are_both_told(run):
    folder, printed = run
    first, second = printed.split("the same of words, as they are served:")
    assert "ms: one frame on one CPU thread" in " ".join(first.split())
    assert "Errors are of 40 test examples" in " ".join(second.split())
    assert "ms: one recording on one CPU thread" in " ".join(second.split())
    (results,) = (folder / "runs").glob("tunes-*/results.json")
    assert json.loads(results.read_bytes())["rows"][0]["examples"] > 1000


def test_a_cascade_of_them_is_chosen_on_words(run):
    folder, _ = run
    places = ("--data-dir", "data", "--models-dir", "models")
    done = trainer_here("cascade", "tunes-student", "--max-loss", "0", *places, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert " of 40 validation examples" in done.stdout
    rule = read_manifest(folder / "models/tunes-student/2").cascade
    assert rule is not None
    assert rule.name == "tunes-ensemble"


async def test_the_cascade_hears_too(run):
    folder, _ = run
    async with serving(folder / "models") as client:
        answer = await client.post(
            "/predict", files={"audio": encoded(tune(4, 1_000))}, data={"model": "tunes-cascade"}
        )
        assert (answer.status_code, answer.json()["labels"]) == (200, ["four"])


def test_a_published_model_teaches_words_too(run):
    """A version folder as the recipe's teacher, whose words are the corpus's."""
    folder, _ = run
    student = "[student]\nhidden = [32]\nepochs = 4\nbatch_size = 128\n"
    (folder / "taught.toml").write_text(f'data = "fsdd"\nteacher = "models/tunes-ensemble/1"\n{student}')
    places = ("--data-dir", "data", "--runs-dir", "runs", "--models-dir", "others", "--device", "cpu")
    done = trainer_here("train", "taught.toml", *places, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert read_manifest(folder / "others/taught-student/1").classes == DIGITS


def test_specialists_of_states_are_refused_before_anything_is_trained(tmp_path: Path):
    write_digits(tmp_path / "data", each=1)
    (tmp_path / "mine.toml").write_text('data = "fsdd"\n[specialists]\n')
    done = trainer_here("train", "mine.toml", "--data-dir", "data", "--models-dir", "models", cwd=tmp_path)
    assert done.returncode == 2
    assert "recipe mine: [specialists] are of classes, and those of fsdd are states of words: expected" in done.stderr


@pytest.mark.parametrize(("key", "told"), [("views = 1", "views = 1"), ("ensemble.jitter = 1", "ensemble.jitter = 1")])
def test_recordings_are_no_images(tmp_path: Path, key: str, told: str):
    write_digits(tmp_path / "data", each=1)
    (tmp_path / "mine.toml").write_text(f'{key}\ndata = "fsdd"\n')
    done: Any = trainer_here("train", "mine.toml", "--data-dir", "data", "--models-dir", "models", cwd=tmp_path)
    assert done.returncode == 2
    assert (
        f"recipe mine: {told} would move images, but the examples of fsdd are none: their shape is [26, 40]"
        in done.stderr
    )
