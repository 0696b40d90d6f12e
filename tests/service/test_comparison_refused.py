"""POST /compare over the real app: what is refused, with which status and in which words."""

from __future__ import annotations

import hashlib
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.machine import counted_cpus, usable_cpus
from service.manifest import GRAPH, HELD_OUT, FileRecord, read_manifest, write_manifest
from tests.repositories import DIGITS, examples, linear, serving, write_model, write_pair

INPUTS = examples(3)[0].tolist()


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A service of a student, its teacher, and models that do not go with them."""
    write_pair(tmp_path)
    write_model(tmp_path, "letters", classes="abcdefghij", held_out=examples())
    write_model(tmp_path, "reversed", role="baseline", classes=DIGITS[::-1])
    write_model(tmp_path, "flat", role="baseline", shape=(64,))
    write_model(tmp_path, "other-data", role="baseline", held_out=examples(seed=9))
    async with serving(tmp_path, max_batch=128) as client:
        yield client


async def refusal(client: httpx.AsyncClient, **body: Any) -> tuple[int, str]:
    answer = await client.post("/compare", json=body)
    assert list(answer.json()) == ["error"], answer.text
    return answer.status_code, answer.json()["error"]


NAMES = "digits-ensemble, digits-student, flat, letters, other-data, reversed"
PAIR = ["digits-student", "digits-ensemble"]


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"models": ["nope", "digits-student"]}, 404, f"unknown model 'nope'; available: {NAMES}"),
        ({"models": ["digits-student/7", "letters"]}, 404, "unknown version 7 of digits-student; available: 1"),
        (
            {"models": ["digits-student/new", "letters"]},
            422,
            "models: got 'digits-student/new', expected a name or name/version, such as digits-student/1",
        ),
        (
            {"models": ["digits-student", "letters/0"]},
            422,
            "models: got 'letters/0', expected a name or name/version, such as letters/1",
        ),
        ({"models": ["digits-student"]}, 422, f"models: got 1, expected two or more of: {NAMES}"),
        ({"models": []}, 422, f"models: got 0, expected two or more of: {NAMES}"),
        ({"models": "digits-student"}, 422, 'models: got "digits-student", expected a valid list'),
        ({"models": [1, 2]}, 422, "models.0: got 1, expected a valid string; models.1: got 2, expected a valid string"),
        ({"dataset": "train"}, 422, "dataset: unknown data set 'train'; available: held-out"),
        (
            {"dataset": "held-out", "inputs": INPUTS},
            422,
            "dataset: got it together with inputs, expected one of them",
        ),
        (
            {"limit": 5, "inputs": INPUTS},
            422,
            "limit: got it together with inputs, all of which are used; expected it with a data set",
        ),
        ({"labels": [1, 2]}, 422, "labels: got them without inputs; the held-out set has its own"),
        ({"limit": 0}, 422, "limit: got 0, expected greater than or equal to 1"),
        ({"limit": 10_001}, 422, "limit: got 10001, expected less than or equal to 10000"),
        ({"limit": 1.5}, 422, "limit: got 1.5, expected a valid integer"),
        ({"batch": 0}, 422, "batch: got 0, expected greater than or equal to 1"),
        ({"batch": 129}, 422, "batch: got 129, expected 1 to 128, the most that this service takes at once"),
        ({"blocks": 0}, 422, "blocks: got 0, expected greater than or equal to 3"),
        ({"blocks": 101}, 422, "blocks: got 101, expected less than or equal to 100"),
        ({"blocks": True}, 422, "blocks: got true, expected a valid integer"),
        ({"seed": -1}, 422, "seed: got -1, expected greater than or equal to 0"),
        (
            {"limitt": 5},
            422,
            "unknown field 'limitt'; known: models, dataset, limit, seed, inputs, labels, batch, blocks, calls, "
            "margin, scenarios, threads, rate, price_per_hour",
        ),
        ({"models": PAIR, "inputs": []}, 422, "inputs: got 0 rows, expected 1 to 10000"),
        ({"models": PAIR, "inputs": [[1, 2]]}, 422, "inputs: row 0 has shape [2], expected shape [8, 8] or [64]"),
        (
            {"models": PAIR, "inputs": INPUTS, "labels": ["1", "2"]},
            422,
            "labels: got 2 for 3 inputs, expected one for each",
        ),
        (
            {"models": PAIR, "inputs": INPUTS, "labels": ["1", "eleven", "2"]},
            422,
            'labels[1]: got "eleven", expected one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, or an index from 0 to 9',
        ),
        (
            {"models": PAIR, "inputs": INPUTS, "labels": [1, 2, 10]},
            422,
            "labels[2]: got 10, expected one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, or an index from 0 to 9",
        ),
        (
            {"models": PAIR, "inputs": INPUTS, "labels": [1, True, 3]},
            422,
            "labels[1]: got true, expected one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, or an index from 0 to 9",
        ),
        (
            {"models": ["digits-student", "letters"]},
            422,
            "digits-student/1 knows 10 classes (0, 1, 2, 3, 4, 5, 6, 7, 8, 9) and letters/1 knows 10 classes "
            "(a, b, c, d, e, f, g, h, i, j), expected models with the same classes in the same order",
        ),
        (
            {"models": ["digits-student", "flat"]},
            422,
            "digits-student/1 takes [8, 8] and flat/1 takes [64], expected models that take the same inputs",
        ),
        (
            {"models": PAIR * 8, "blocks": 100, "scenarios": ["offline", "server", "alternating", "http"]},
            422,
            "this comparison would take 1126 s, expected at most 600 s: ask for fewer blocks, calls, models, examples "
            "or scenarios, or a smaller batch",
        ),
        ({"models": PAIR * 9}, 422, "models: got 18, expected at most 16"),
        ({"calls": -1}, 422, "calls: got -1, expected greater than or equal to 0"),
        ({"margin": -0.1}, 422, "margin: got -0.1, expected greater than or equal to 0"),
        ({"margin": "small"}, 422, 'margin: got "small", expected a valid number'),
        (
            {"scenarios": ["turbo"]},
            422,
            "scenarios.0: got \"turbo\", expected 'offline', 'server', 'alternating' or 'http'",
        ),
        (
            {"models": PAIR, "inputs": INPUTS, "margin": 0.5},
            422,
            "margin: got 0.5, but the inputs have no labels, without which there is no verdict",
        ),
        (
            {"models": PAIR, "threads": 1000},
            422,
            f"threads: got 1000, expected 1 to {4 * usable_cpus()}, on {counted_cpus(usable_cpus())}",
        ),
        ({"threads": 0}, 422, "threads: got 0, expected greater than or equal to 1"),
        ({"rate": 0.5}, 422, "rate: got 0.5, expected greater than or equal to 1"),
        ({"price_per_hour": 0}, 422, "price_per_hour: got 0, expected greater than 0"),
    ],
)
async def test_a_request_that_cannot_be_compared_is_refused(
    client: httpx.AsyncClient, body: dict[str, Any], status: int, text: str
) -> None:
    """Each by its own words, and nothing is measured."""
    assert await refusal(client, **body) == (status, text)


async def test_the_order_of_classes_matters(client: httpx.AsyncClient) -> None:
    status, text = await refusal(client, models=["digits-student", "reversed"])
    assert status == 422
    assert text.endswith("expected models with the same classes in the same order")


async def test_models_with_different_held_out_sets_are_not_compared_on_them(client: httpx.AsyncClient) -> None:
    status, text = await refusal(client, models=["digits-student", "other-data"])
    assert status == 422
    assert text.startswith("digits-student/1 and other-data/1 have different held-out sets (SHA-256 ")
    assert text.endswith("), expected the same one, or inputs in the request")


@pytest.mark.parametrize(
    ("raw", "status", "start"),
    [
        (b'{"inputs": [[NaN]]}', 400, "the body is not JSON"),
        (b'{"inputs"', 400, "the body is not JSON"),
        (b"", 400, "the body is empty"),
        (b"[]", 422, "the body is a list, expected a JSON object"),
    ],
)
async def test_a_body_that_is_no_json_object_is_refused(
    client: httpx.AsyncClient, raw: bytes, status: int, start: str
) -> None:
    """NaN is not JSON."""
    answer = await client.post("/compare", content=raw)
    assert answer.status_code == status
    assert answer.json()["error"].startswith(start)


async def test_inputs_that_overflow_float32_are_refused(client: httpx.AsyncClient) -> None:
    inputs = [[0.0] * 64, [0.0] * 63 + [1e39]]
    assert await refusal(client, models=PAIR, inputs=inputs) == (
        422,
        "inputs: row 1 holds 1e+39 at position 63, expected a finite float32",
    )


async def test_inputs_that_make_a_model_overflow_are_refused(client: httpx.AsyncClient) -> None:
    """They are finite themselves, but the answer would not be, and no NaN reaches the report."""
    weights, _ = linear((8, 8), 10, seed=1)
    inputs = [[0.0] * 64, (3e38 * np.sign(weights[:, 0])).tolist()]
    assert await refusal(client, models=PAIR, inputs=inputs, batch=1) == (
        422,
        "digits-student/1 gives no finite answer to example 1, whose values go from -3e+38 to 3e+38; "
        "expected the raw units that it was trained on",
    )


async def test_a_student_without_a_teacher_asks_for_names(tmp_path: Path) -> None:
    write_model(tmp_path, "digits-baseline", role="baseline")
    async with serving(tmp_path) as client:
        assert await refusal(client) == (
            422,
            "digits-baseline/1 is the default model and names no teacher to compare it with; "
            "expected models with two or more of: digits-baseline",
        )


async def test_a_teacher_that_is_not_loaded_is_named_with_what_is(tmp_path: Path) -> None:
    ensemble = write_model(tmp_path / "elsewhere", "digits-ensemble", role="ensemble")
    write_model(tmp_path / "models", teacher=ensemble)
    write_model(tmp_path / "models", "digits-ensemble", 2, role="ensemble")
    async with serving(tmp_path / "models") as client:
        assert await refusal(client) == (
            404,
            "the teacher of digits-student/1 is digits-ensemble/1, which is not loaded: "
            "unknown version 1 of digits-ensemble; available: 2",
        )


async def test_a_teacher_with_another_graph_than_the_student_names_is_not_its_teacher(tmp_path: Path) -> None:
    first = write_model(tmp_path / "elsewhere", "digits-ensemble", role="ensemble")
    write_model(tmp_path / "models", teacher=first)
    other = write_model(tmp_path / "models", "digits-ensemble", role="ensemble", seed=4)
    expected, found = (read_manifest(folder).files[GRAPH].sha256[:12] for folder in (first, other))
    async with serving(tmp_path / "models") as client:
        assert await refusal(client) == (
            404,
            "digits-ensemble/1 is not the teacher that digits-student/1 was distilled from: "
            f"its graph has SHA-256 {found}…, expected {expected}…",
        )


async def test_without_a_model_it_is_not_ready(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        assert await refusal(client) == (503, "there is no model yet: waiting for the trainer to publish one")


def replace_held_out(folder: Path, raw: bytes | None) -> None:
    """Other bytes for held-out.npz, and a manifest that vouches for them; None removes it from both."""
    manifest = read_manifest(folder)
    files = {name: record for name, record in manifest.files.items() if name != HELD_OUT}
    if raw is None:
        (folder / HELD_OUT).unlink()
    else:
        (folder / HELD_OUT).write_bytes(raw)
        files[HELD_OUT] = FileRecord(bytes=len(raw), sha256=hashlib.sha256(raw).hexdigest())
    write_manifest(folder, manifest.model_copy(update={"files": files}))


async def held_out_refusal(tmp_path: Path, raw: bytes | None) -> tuple[int, str]:
    for folder in write_pair(tmp_path):
        replace_held_out(folder, raw)
    async with serving(tmp_path) as client:
        return await refusal(client)


async def test_models_without_a_held_out_set_ask_for_inputs(tmp_path: Path) -> None:
    assert await held_out_refusal(tmp_path, None) == (
        422,
        "digits-student/1 has no held-out.npz, expected inputs in the request",
    )


async def test_a_held_out_set_that_is_no_npz_is_refused(tmp_path: Path) -> None:
    status, text = await held_out_refusal(tmp_path, b"garbage")
    assert status == 500
    assert text.startswith("digits-student/1: held-out.npz is not a file of the arrays inputs and labels")


async def test_a_held_out_set_of_another_shape_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, inputs=np.zeros((3, 5)), labels=np.zeros(3, np.int64))
    status, text = await held_out_refusal(tmp_path, buffer.getvalue())
    assert status == 500
    assert text.startswith("digits-student/1: held-out.npz holds inputs [3, 5] and labels [3], expected [3, 8, 8]")


async def test_a_held_out_set_with_nan_is_refused(tmp_path: Path) -> None:
    """No NaN reaches the report."""
    buffer = io.BytesIO()
    np.savez(buffer, inputs=np.full((3, 8, 8), np.nan), labels=np.zeros(3, np.int64))
    status, text = await held_out_refusal(tmp_path, buffer.getvalue())
    assert status == 500
    assert text == "digits-student/1: held-out.npz holds NaN or infinity, expected finite inputs"


async def test_a_held_out_set_that_differs_from_its_manifest_is_refused(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    """It was changed under a model that is being served; the model goes on answering."""
    for name in PAIR:
        (tmp_path / name / "1" / HELD_OUT).write_bytes(b"changed")
    status, text = await refusal(client, models=PAIR)
    assert status == 500
    assert text.startswith("digits-student/1: held-out.npz does not match its manifest: SHA-256 ")
    assert str(tmp_path) not in text
