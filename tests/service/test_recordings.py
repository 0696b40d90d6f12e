"""Recordings over HTTP: the word that a file says, from the file's bytes to the answer; and files that say none."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio
from pydantic import ValidationError

from service.errors import ModelError
from service.inputs.filterbanks import filterbanks, windows
from service.inputs.hmm import WordModels, save_word_models
from service.inputs.spoken import lengths
from service.manifest import AudioSpec, InputSpec
from service.model import load_model
from tests.listeners import AUDIO, FILTERS, FRAMES, WORDS, recordings, weights, word_models, write_listener
from tests.recordings import RATE, encoded, tone, tune
from tests.repositories import serving, write_model
from tests.served import ROOT


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    root = tmp_path_factory.mktemp("models")
    write_listener(root, "tunes-ensemble", role="ensemble")
    write_listener(root, noise=3.0)
    write_model(root, "digits-member", role="member")
    async with serving(root) as opened:
        yield opened


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def heard(client: httpx.AsyncClient, raw: bytes, **fields: Any) -> httpx.Response:
    return await client.post("/predict", files={"audio": ("word.wav", raw)}, data={"model": "tunes-ensemble", **fields})


def by_hand(samples: np.ndarray) -> np.ndarray:
    """The words' probabilities [W] in float64: the best of all paths through silence, three states and silence."""
    matrix, bias = weights()
    frames_TF = filterbanks(samples, RATE, FILTERS)
    windows_TD = windows(frames_TF, AUDIO.before, AUDIO.after).reshape(len(frames_TF), -1).astype(np.float64)
    models = word_models()
    emissions_TS = windows_TD @ matrix + bias - models.log_prior
    scores = []
    for chain in models.chains:
        best = np.full(5, -np.inf)
        best[:2] = emissions_TS[0, chain[:2]]
        for emission_S in emissions_TS[1:]:
            entered = np.concatenate([[-np.inf], best[:-1] + np.log(0.1)])
            best = np.maximum(best + np.log(0.9), entered) + emission_S[chain]
        scores.append(best[3:].max())
    powers = np.exp(models.scale * (np.array(scores) - max(scores)))
    return powers / powers.sum()


@pytest.mark.parametrize("word", range(len(WORDS)))
async def test_a_word_is_heard_with_its_probability(client: httpx.AsyncClient, word: int):
    """The same numbers as by hand, from the file to the answer."""
    samples = tune(word, seed=99)
    answer = (await heard(client, encoded(samples, subtype="FLOAT"))).json()
    assert answer["labels"] == [WORDS[word]]
    assert answer["probabilities"][0] == pytest.approx(by_hand(samples), abs=1e-4)
    assert answer["top_k"][0][0] == {"label": WORDS[word], "probability": max(answer["probabilities"][0])}
    assert sum(answer["probabilities"][0]) == pytest.approx(1)


@pytest.mark.parametrize(
    "raw",
    [
        encoded(tune(2, seed=99), kind="FLAC"),
        encoded(np.stack([tune(2, seed=99)] * 2, axis=1)),
        encoded(np.clip(4 * tune(2, seed=99), -1, 1)),
        encoded(np.repeat(tune(2, seed=99), 2), 2 * RATE),
        encoded(np.concatenate([0.005 * np.random.default_rng(0).normal(size=2000), tune(2, seed=99)])),
        encoded(0.01 * tune(2, seed=99)),
        encoded(np.concatenate([np.zeros(1500), tune(2, seed=99), np.zeros(1500)])),
    ],
    ids=["flac", "stereo", "clipped", "another rate", "late", "quiet", "between silences without noise"],
)
async def test_however_it_was_recorded(client: httpx.AsyncClient, raw: bytes):
    assert (await heard(client, raw)).json()["labels"] == ["mi"]


async def test_frames_can_be_sent_as_numbers_too(client: httpx.AsyncClient):
    """As they are in the held-out set: the answers are those of the files."""
    inputs, labels = recordings(range(99, 100))
    answer = (await client.post("/predict", json={"model": "tunes-ensemble", "inputs": inputs.tolist()})).json()
    assert answer["labels"] == [WORDS[label] for label in labels]
    single = (await heard(client, encoded(tune(1, seed=99), subtype="FLOAT"))).json()
    assert answer["probabilities"][1] == pytest.approx(single["probabilities"][0], abs=1e-5)


async def test_a_temperature_softens_words(client: httpx.AsyncClient):
    sharp, soft = [(await heard(client, encoded(tune(0, seed=99)), temperature=t)).json() for t in ("1", "20")]
    assert sharp["labels"] == soft["labels"]
    powers = np.array(sharp["probabilities"][0]) ** (1 / 20)
    assert soft["probabilities"][0] == pytest.approx(powers / powers.sum(), rel=1e-3)


@pytest.mark.parametrize(
    ("raw", "status", "text"),
    [
        (b"", 400, "audio: got 0 bytes that are no recording, expected a WAV or FLAC file"),
        (b"\x89PNG\r\n" * 9, 400, "audio: got 54 bytes that are no recording, expected a WAV"),
        (encoded(np.zeros(0)), 400, "audio: the recording is empty, expected sound"),
        (encoded(np.zeros(RATE)), 422, "audio: the recording is silent: all of its samples are equal"),
        (encoded(tone(440, 0.09)), 422, "audio: the sound lasts 90 ms, expected at least 100 for a word"),
        (encoded(tone(440, 1.1)), 413, "audio: the recording lasts 1.1 s, expected at most 1 s"),
        (encoded(np.zeros(3600 * RATE, dtype=np.int16), kind="FLAC"), 413, "audio: the recording lasts 3600.0 s, exp"),
        (encoded(tone(440, 0.5), kind="OGG"), 400, "audio: got "),
    ],
)
async def test_what_cannot_be_heard_is_refused(client: httpx.AsyncClient, raw: bytes, status: int, text: str):
    answer = await heard(client, raw)
    assert answer.status_code == status
    assert answer.json()["error"].startswith(text)


async def test_noise_is_some_word_with_a_probability(client: httpx.AsyncClient):
    """There is no word for none."""
    noise = np.random.default_rng(0).normal(scale=0.01, size=RATE)
    answer = (await heard(client, encoded(noise))).json()
    assert sum(answer["probabilities"][0]) == pytest.approx(1)


async def test_without_a_name_the_newest_model_answers_that_takes_such_a_file(client: httpx.AsyncClient):
    word = await client.post("/predict", files={"audio": encoded(tune(1, seed=99))})
    picture = await client.post("/predict", files={"image": (ROOT / "docs" / "three.png").read_bytes()})
    assert (word.json()["model"], picture.json()["model"]) == ("tunes-student", "digits-member")


async def test_forms_and_bodies_that_do_not_fit_are_told_what_would(client: httpx.AsyncClient):
    raw = encoded(tune(0, seed=99))
    answer = await client.post("/predict", files={"audio": raw}, data={"model": "digits-member"})
    assert (answer.status_code, answer.json()["error"]) == (
        422,
        "digits-member takes no recordings: send JSON with inputs of shape [8, 8]",
    )
    answer = await client.post("/predict", files={"image": b"x"}, data={"model": "tunes-ensemble"})
    assert answer.json()["error"] == "tunes-ensemble takes no images: send JSON with inputs of shape [100, 20]"
    answer = await heard(client, raw, invert="true")
    assert answer.json()["error"] == "invert: it is for pictures, got a recording"
    answer = await client.post("/predict", files={"audio": (None, "hello")})
    assert answer.json()["error"] == "audio: expected a file (curl -F audio=@word.wav)"
    answer = await client.post("/predict", content=raw)
    assert answer.json()["error"].startswith("the body is a recording, expected JSON, or the recording in a form (curl")


async def test_models_that_hear_are_compared_by_words(client: httpx.AsyncClient):
    """On the held-out recordings, like any."""
    asked = {"models": ["tunes-student", "tunes-ensemble"], "blocks": 3, "batch": 2, "scenarios": [], "margin": 50}
    report = (await client.post("/compare", json=asked)).json()
    student, ensemble = report["models"]
    assert ensemble["accuracy"] == 1.0
    assert student["accuracy"] < 1.0
    assert student["name"] == "tunes-student"
    assert report["pairs"][0]["agreement"] is not None


async def test_recordings_are_compared_in_batches_of_no_more_than_a_request_may_hold(client: httpx.AsyncClient):
    asked = {"models": ["tunes-student", "tunes-ensemble"], "blocks": 3, "scenarios": ["offline"]}
    report = (await client.post("/compare", json=asked)).json()
    assert report["settings"]["request"]["batch"] == 32
    for model in report["models"]:
        assert max(tried["size"] for tried in model["offline"]["tried"]) == 32
    answer = await client.post("/compare", json=asked | {"batch": 33})
    assert answer.status_code == 422
    assert answer.json()["error"] == "batch: got 33, expected 1 to 32, the most that this service takes at once"


async def test_the_manifest_says_that_it_hears(client: httpx.AsyncClient):
    manifest = (await client.get("/models/tunes-student")).json()
    assert manifest["input"] == {
        "shape": [FRAMES, FILTERS],
        "image": None,
        "audio": {"rate": RATE, "before": 3, "after": 1},
    }
    assert manifest["files"].keys() == {"model.onnx", "held-out.npz", "train-hashes.npy", "hmm.npz"}
    assert (await client.get("/models/digits-member")).json()["input"].keys() == {"shape", "image"}


async def test_frames_of_zeros_at_the_end_are_not_there():
    inputs = np.zeros((3, 5, 2), dtype=np.float32)
    inputs[0, :3], inputs[1, 2, 1] = 1.0, 1.0
    assert lengths(inputs).tolist() == [3, 3, 0]


async def test_a_recording_of_nothing_has_a_distribution_too(tmp_path: Path):
    """Zeros, as the one that warms up; shorter than a word has states."""
    model = load_model(write_listener(tmp_path), device="cpu")
    found = model.run(np.zeros((2, FRAMES, FILTERS), dtype=np.float32))
    assert np.allclose(found.probabilities_BK.sum(axis=1), 1)


async def test_together_or_apart_the_answers_are_the_same(tmp_path: Path):
    model = load_model(write_listener(tmp_path), device="cpu")
    inputs, _ = recordings(range(6))
    together = model.run(inputs).logits_BK
    assert np.allclose(together, np.concatenate([model.run(each[None]).logits_BK for each in inputs]), atol=1e-4)


def models(words: tuple[str, ...], states: int) -> bytes:
    total = 1 + states * len(words)
    even = np.full(total, -1.0, dtype=np.float32)
    return save_word_models(WordModels(words, even, even, even, 1.0))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"word_models": b"x"}, "hmm.npz: is no file of the arrays words, log_prior, log_stay, log_leave, scale"),
        ({"word_models": models(("a", "b", "c", "d"), 3)}, "hmm.npz has the words a, b, c, d, expected do, re, mi, fa"),
        ({"word_models": models(WORDS, 2)}, "the graph takes and gives"),
        ({"word_models": models(WORDS, 101)}, "a word has 101 states, a recording at most 100 frames"),
    ],
)
async def test_a_model_whose_words_do_not_fit_is_refused(tmp_path: Path, given: dict[str, Any], message: str):
    with pytest.raises(ModelError) as found:
        load_model(write_listener(tmp_path, **given), device="cpu")
    assert str(found.value).startswith(f"tunes-student/1: {message}")


async def test_a_manifest_must_list_its_words(tmp_path: Path):
    folder = write_listener(tmp_path)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    del manifest["files"]["hmm.npz"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match=r"not valid: top level: Value error, files does not list hmm\.npz$"):
        load_model(folder, device="cpu")


async def test_words_that_were_changed_are_refused(tmp_path: Path):
    folder = write_listener(tmp_path)
    (folder / "hmm.npz").write_bytes(models(WORDS, 3))
    with pytest.raises(ModelError, match=r"^tunes-student/1: hmm\.npz does not match its manifest: SHA-256 "):
        load_model(folder, device="cpu")


async def test_a_recording_counts_as_many_rows(client: httpx.AsyncClient):
    """Of 1,024 rows that a request may have, 32 recordings: each is a hundred rows of the graph."""
    inputs, _ = recordings(range(9))
    asked = {"model": "tunes-ensemble", "inputs": inputs[:33].tolist()}
    answer = await client.post("/predict", json=asked)
    assert (answer.status_code, answer.json()["error"]) == (422, "inputs: got 33 rows, expected 1 to 32")
    assert (await client.post("/predict", json={**asked, "inputs": inputs[:32].tolist()})).status_code == 200
    config = (await client.get("/v2/models/tunes-ensemble/config")).json()
    assert config["max_batch_size"] == 32
    assert (await client.get("/v2/models/digits-member/config")).json()["max_batch_size"] == 1024


async def test_numbers_that_are_no_log_energies_give_a_distribution_all_the_same(client: httpx.AsyncClient):
    inputs = np.full((1, FRAMES, FILTERS), 1e38)
    answer = await client.post("/predict", json={"model": "tunes-ensemble", "inputs": inputs.tolist()})
    assert answer.status_code == 200
    assert sum(answer.json()["probabilities"][0]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rate": 11_025}, "Input should be a multiple of 200"),
        ({"before": 101}, "Input should be less than or equal to 100"),
        ({"rate": 3_800}, "Input should be greater than or equal to 4000"),
    ],
)
async def test_frames_must_be_whole_and_windows_small(given: dict[str, int], message: str):
    with pytest.raises(ValidationError, match=message):
        AudioSpec(**{"rate": RATE, "before": 3, "after": 1, **given})


async def test_a_recording_is_a_minute_at_most():
    with pytest.raises(ValidationError, match="a recording has at most 6000 frames, got shape"):
        InputSpec(shape=(6_001, FILTERS), audio=AUDIO)
