"""POST /predict over the real app: its answers are what numpy computes, and what is wrong is said."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.manifest import read_manifest
from service.model import load_model
from tests.repositories import examples, known_probabilities, serving, write_model, write_pair

INPUTS, LABELS = examples(6)
ROWS = INPUTS.tolist()
KNOWN = "model, version, temperature, top_k, inputs"


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """An ensemble of seed 0, its student of seed 1."""
    write_pair(tmp_path)
    async with serving(tmp_path, max_batch=8) as client:
        yield client


async def ask(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await client.post("/predict", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


async def test_the_answer_is_what_numpy_computes(client: httpx.AsyncClient):
    """The newest student by default: labels, probabilities, the three best classes, times."""
    answer = await ask(client, inputs=ROWS)
    expected = known_probabilities(INPUTS, seed=1)
    assert list(answer) == ["model", "version", "labels", "probabilities", "top_k", "timings_ms"]
    assert (answer["model"], answer["version"]) == ("digits-student", 1)
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-6)
    assert answer["labels"] == [str(label) for label in expected.argmax(axis=1)]
    for row, candidates in zip(expected, answer["top_k"], strict=True):
        assert [candidate["label"] for candidate in candidates] == [str(k) for k in np.argsort(-row)[:3]]
        np.testing.assert_allclose(
            [candidate["probability"] for candidate in candidates], np.sort(row)[:-4:-1], atol=1e-6
        )
    times = answer["timings_ms"]
    assert list(times) == ["queue", "compute", "total"]
    assert 0 < times["queue"] + times["compute"] <= times["total"]


async def test_a_named_model_and_version_answers(client: httpx.AsyncClient):
    """The ensemble has the weights that labelled the examples."""
    answer = await ask(client, model="digits-ensemble", version=1, inputs=ROWS[1:])
    assert answer["model"] == "digits-ensemble"
    assert answer["labels"] == [str(label) for label in LABELS[1:]]


async def test_flat_rows_mean_the_same_as_nested_ones(client: httpx.AsyncClient):
    """In one request, too."""
    nested = await ask(client, inputs=ROWS)
    flat = await ask(client, inputs=[INPUTS[0].ravel().tolist(), *ROWS[1:]])
    assert nested["probabilities"] == flat["probabilities"]


@pytest.mark.parametrize("temperature", [0.5, 1, 4.0, 20.0])
async def test_a_temperature_softens(temperature: float, client: httpx.AsyncClient):
    """softmax(logits / T)."""
    answer = await ask(client, inputs=ROWS, temperature=temperature)
    expected = known_probabilities(INPUTS, seed=1, temperature=temperature)
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-6)


async def test_temperature_one_is_what_the_graph_itself_says(client: httpx.AsyncClient, tmp_path: Path):
    """To the precision of float32."""
    answer = await ask(client, inputs=ROWS)
    probabilities = load_model(tmp_path / "digits-student" / "1", device="cpu").run(INPUTS).probabilities_BK
    np.testing.assert_allclose(answer["probabilities"], probabilities, atol=1e-6)


async def test_extreme_temperatures_give_certainty_and_uniformity(client: httpx.AsyncClient):
    """Never NaN, which JSON would show as null."""
    cold = np.array((await ask(client, inputs=ROWS, temperature=1e-308))["probabilities"], dtype=float)
    np.testing.assert_array_equal(np.sort(cold)[:, -2:], [[0.0, 1.0]] * 6)
    hot = (await ask(client, inputs=ROWS, temperature=1e308))["probabilities"]
    np.testing.assert_allclose(hot, 0.1)


@pytest.mark.parametrize("top_k", [1, 10])
async def test_top_k_is_as_many_as_asked_for(top_k: int, client: httpx.AsyncClient):
    """From one to all classes, the best first, beginning with the label."""
    answer = await ask(client, inputs=ROWS, top_k=top_k)
    assert [len(candidates) for candidates in answer["top_k"]] == [top_k] * 6
    assert [candidates[0]["label"] for candidates in answer["top_k"]] == answer["labels"]


async def test_by_default_a_model_of_two_classes_gives_both(tmp_path: Path):
    """Three is more than it has."""
    write_model(tmp_path, "coin", classes=("heads", "tails"), shape=(3,))
    async with serving(tmp_path) as client:
        answer = await ask(client, inputs=[[1, 2, 3]])
    assert {candidate["label"] for candidate in answer["top_k"][0]} == {"heads", "tails"}


async def test_null_means_the_default(client: httpx.AsyncClient):
    """As clients send that fill in every field."""
    answer = await ask(client, inputs=ROWS, model=None, version=None, temperature=None, top_k=None)
    assert answer["probabilities"] == (await ask(client, inputs=ROWS))["probabilities"]


async def test_json_is_read_whatever_its_content_type_says(client: httpx.AsyncClient):
    """curl -d says that it is a form."""
    content, kind = (
        httpx.Request("POST", "http://x", json={"inputs": ROWS}).content,
        "application/x-www-form-urlencoded",
    )
    answer = await client.post("/predict", content=content, headers={"content-type": kind})
    assert answer.status_code == 200


ROW = ROWS[0]


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({}, 422, "inputs is missing: rows in raw units, each nested or flat to the model's shape"),
        (
            {"inputs": ROW},
            422,
            "inputs: row 0 has shape [8], expected shape [8, 8] or [64]; to send one example, wrap it",
        ),
        ({"inputs": []}, 422, "inputs: got 0 rows, expected 1 to 8"),
        ({"inputs": [ROW] * 9}, 422, "inputs: got 9 rows, expected 1 to 8"),
        ({"inputs": [ROW], "model": "nope"}, 404, "unknown model 'nope'; available: digits-ensemble, digits-student"),
        ({"inputs": [ROW], "model": 5}, 422, "model: got 5, expected a valid string"),
        ({"inputs": [ROW], "version": 2}, 404, "unknown version 2 of digits-student; available: 1"),
        ({"inputs": [ROW], "version": "1"}, 422, 'version: got "1", expected a valid integer'),
        ({"inputs": [ROW], "version": 0}, 422, "version: got 0, expected greater than or equal to 1"),
        ({"inputs": [ROW], "version": True}, 422, "version: got true, expected a valid integer"),
        ({"inputs": [ROW], "temperature": 0}, 422, "temperature: got 0, expected greater than 0"),
        ({"inputs": [ROW], "temperature": -2.5}, 422, "temperature: got -2.5, expected greater than 0"),
        ({"inputs": [ROW], "temperature": "1"}, 422, 'temperature: got "1", expected a valid number'),
        ({"inputs": [ROW], "temperature": True}, 422, "temperature: got true, expected a valid number"),
        ({"inputs": [ROW], "temperature": [1]}, 422, "temperature: got a list, expected a valid number"),
        ({"inputs": [ROW], "top_k": 0}, 422, "top_k: got 0, expected greater than or equal to 1"),
        ({"inputs": [ROW], "top_k": 11}, 422, "top_k: got 11, expected 1 to 10, the classes of digits-student"),
        ({"inputs": [ROW], "top_k": 2.5}, 422, "top_k: got 2.5, expected a valid integer"),
        ({"inputs": [ROW], "topk": 2}, 422, f"unknown field 'topk'; known: {KNOWN}"),
        (
            {"inputs": [ROW], "top_k": 0, "temperature": 0},
            422,
            "temperature: got 0, expected greater than 0; top_k: got 0",
        ),
    ],
)
async def test_a_wrong_field_is_refused(body: dict[str, Any], status: int, text: str, client: httpx.AsyncClient):
    """With what was given, what was expected and what there is."""
    answer = await client.post("/predict", json=body)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert answer.json()["error"].startswith(text)


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"", 400, "the body is empty, expected a JSON object such as {"),
        (b'{"inputs": [[1, 2', 400, "the body is not JSON: unexpected end of data: line 1 column 18 (char 17)"),
        (b'{"inputs": [[1, 2,]]}', 400, "the body is not JSON: trailing comma is not allowed"),
        (b'{"inputs": [[NaN]]}', 400, "(NaN and Infinity are not JSON)"),
        (b'{"inputs": [[-Infinity]]}', 400, "(NaN and Infinity are not JSON)"),
        (b'{"inputs": [[1e999]]}', 400, "the body is not JSON: number is infinity when parsed as double"),
        (b'{"inputs": ' + b"[" * 250_000, 400, "the body is not JSON: depth limit exceeded"),
        (b'{"inputs": ' + b"[" * 900 + b"]" * 900 + b"}", 422, "inputs: row 0 is ragged"),
        (b'{"inputs": [[1]], "temperature": ' + b"[" * 900 + b"]" * 900 + b"}", 422, "temperature: got a list"),
        (b'{"inputs": "\xff"}', 400, "the body is not JSON: str is not valid UTF-8"),
        (b"[[1, 2]]", 422, "the body is a list, expected a JSON object such as {"),
        (b'"inputs"', 422, "the body is a string, expected a JSON object"),
        (b"null", 422, "the body is null, expected a JSON object"),
        (b"\x00\x01\x02", 400, "the body is not JSON"),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused(body: bytes, status: int, text: str, client: httpx.AsyncClient):
    """And the next request is answered."""
    answer = await client.post("/predict", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert text in answer.json()["error"]
    assert (await client.post("/predict", json={"inputs": ROWS})).status_code == 200


async def test_without_models_it_says_so(tmp_path: Path):
    """503, and when to come back."""
    async with serving(tmp_path) as client:
        answer = await client.post("/predict", json={"inputs": ROWS})
    text = "there is no model yet: waiting for the trainer to publish one"
    assert (answer.status_code, answer.json(), answer.headers["retry-after"]) == (503, {"error": text}, "1")


async def test_no_request_fails_while_versions_come_and_go(tmp_path: Path):
    """Each is answered by the version that it says, with that version's weights."""
    write_model(tmp_path, version=1, seed=1)
    async with serving(tmp_path, reload_s=0.005) as client:
        stop = asyncio.Event()

        async def keep_asking() -> list[dict[str, Any]]:
            answers = []
            while not stop.is_set():
                answers.append(await ask(client, inputs=ROWS))
            return answers

        tasks = [asyncio.create_task(keep_asking()) for _ in range(4)]
        for version in range(2, 6):
            await asyncio.to_thread(write_model, tmp_path, version=version, seed=version)
            while (await ask(client, inputs=ROWS))["version"] != version:
                await asyncio.sleep(0.005)
            await asyncio.to_thread(shutil.rmtree, tmp_path / "digits-student" / str(version - 1))
        stop.set()
        answers = [answer for part in await asyncio.gather(*tasks) for answer in part]
    assert {answer["version"] for answer in answers} == {1, 2, 3, 4, 5}
    for version in range(1, 6):
        answer = next(answer for answer in answers if answer["version"] == version)
        np.testing.assert_allclose(answer["probabilities"], known_probabilities(INPUTS, seed=version), atol=1e-6)


async def test_many_requests_at_once_are_answered_each_with_its_own_rows(client: httpx.AsyncClient):
    """They share batches, and nobody notices."""
    answers = await asyncio.gather(*(ask(client, inputs=[ROWS[index % 6]]) for index in range(60)))
    expected = known_probabilities(INPUTS, seed=1)
    for index, answer in enumerate(answers):
        np.testing.assert_allclose(answer["probabilities"][0], expected[index % 6], atol=1e-6)


async def test_the_example_of_the_reference_works_when_pasted(client: httpx.AsyncClient, tmp_path: Path):
    """It is the first held-out input of the newest student, flat and compact."""
    operation = (await client.get("/openapi.json")).json()["paths"]["/predict"]["post"]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    assert example["inputs"] == [examples()[0][0].ravel().astype(int).tolist()]
    answer = await ask(client, **example)
    assert answer["model"] == example["model"] == read_manifest(tmp_path / "digits-student" / "1").name
    write_model(tmp_path, "newer", version=9, shape=(4,))
    client._transport.app.state.library.scan()
    operation = (await client.get("/openapi.json")).json()["paths"]["/predict"]["post"]
    assert operation["requestBody"]["content"]["application/json"]["example"]["model"] == "newer"


async def test_the_order_of_the_classes_stays_where_the_temperature_makes_them_equal(client: httpx.AsyncClient):
    """Labels and top-k go by the logits, whatever rounding leaves of the probabilities."""
    usual, hot = await ask(client, inputs=ROWS), await ask(client, inputs=ROWS, temperature=1e308)
    assert hot["labels"] == usual["labels"]


async def test_a_picture_as_a_body_is_told_how_to_be_sent(client: httpx.AsyncClient):
    """Not that its bytes are no JSON."""
    answer = await client.post("/predict", content=b"\x89PNG\r\n\x1a\n")
    assert (answer.status_code, answer.json()) == (
        400,
        {"error": "the body is a picture, expected JSON, or the picture in a form (curl -F image=@digit.png)"},
    )


async def test_an_endless_row_is_refused_without_looking_into_it(client: httpx.AsyncClient):
    """Ten million lists in one row: their shape would take seconds to find out."""
    answer = await client.post("/predict", content=b'{"inputs": [[' + b"[]," * 1_000_000 + b"[]]]}")
    assert (answer.status_code, answer.json()) == (
        422,
        {"error": "inputs: row 0 has 1000001 items, expected shape [8, 8] or [64]"},
    )
