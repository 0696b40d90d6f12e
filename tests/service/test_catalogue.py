"""GET /models: what there is, what each says of itself, what was refused, and examples to try."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import numpy as np
import pytest

from service.manifest import GRAPH, HELD_OUT, MANIFEST, FileRecord, read_manifest, write_manifest
from tests.repositories import examples, serving, write_model, write_pair


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A pair, a newer student, and a broken newest one."""
    write_pair(tmp_path)
    write_model(tmp_path, version=2, seed=2)
    (write_model(tmp_path, version=3) / GRAPH).write_bytes(b"broken")
    async with serving(tmp_path) as client:
        yield client


async def test_the_list_says_what_there_is(client: httpx.AsyncClient, tmp_path: Path):
    """The newest of each name with its versions, the default, and what was asked for and got."""
    found = (await client.get("/models")).json()
    assert list(found) == ["device", "default", "models", "cascades", "refused"]
    assert found["device"] == {"asked": "cpu", "got": "CPUExecutionProvider"}
    assert found["default"] == "digits-student"
    ensemble, student = found["models"]
    assert (ensemble["name"], ensemble["versions"]) == ("digits-ensemble", [1])
    manifest = json.loads((tmp_path / "digits-student" / "2" / MANIFEST).read_text())
    shown = "name version role classes input teacher temperature parameters multiply_accumulates bytes metrics created"
    expected = {key: manifest[key] for key in shown.split()}
    assert student == {**expected, "versions": [1, 2], "provider": "CPUExecutionProvider"}


async def test_the_list_says_what_was_refused_and_why(client: httpx.AsyncClient):
    """The last good version is still there."""
    (refusal,) = (await client.get("/models")).json()["refused"]
    assert (refusal["name"], refusal["version"]) == ("digits-student", 3)
    assert refusal["reason"].startswith("digits-student/3: model.onnx does not match its manifest: SHA-256 ")


async def test_without_models_the_list_is_empty(tmp_path: Path):
    """And nothing is the default."""
    async with serving(tmp_path) as client:
        found = (await client.get("/models")).json()
    nothing = {"models": [], "cascades": [], "refused": []}
    assert found == {"device": {"asked": "cpu", "got": None}, "default": None, **nothing}


@pytest.mark.parametrize(("query", "version"), [("", 2), ("?version=1", 1)])
async def test_a_model_shows_its_manifest(query: str, version: int, client: httpx.AsyncClient, tmp_path: Path):
    """As it stands in the folder."""
    stands = json.loads((tmp_path / "digits-student" / str(version) / MANIFEST).read_text())
    assert (await client.get(f"/models/digits-student{query}")).json() == stands


async def test_examples_are_a_seeded_sample_of_the_held_out_set(client: httpx.AsyncClient):
    """Without repetition; the same seed draws the same."""
    inputs, labels = examples()
    first = (await client.get("/models/digits-student/examples")).json()
    assert (first["model"], first["version"], len(first["examples"])) == ("digits-student", 2, 12)
    for example in first["examples"]:
        np.testing.assert_array_equal(example["input"], inputs[example["index"]])
        assert example["label"] == str(labels[example["index"]])
    assert len({example["index"] for example in first["examples"]}) == 12
    assert (await client.get("/models/digits-student/examples?count=12&seed=0")).json() == first
    assert (await client.get("/models/digits-student/examples?seed=1")).json() != first


async def test_there_are_no_more_examples_than_the_held_out_set_has(client: httpx.AsyncClient):
    """Forty here."""
    found = (await client.get("/models/digits-student/examples?count=100&version=1")).json()
    assert sorted(example["index"] for example in found["examples"]) == list(range(40))
    assert found["version"] == 1


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/models/nope", 404, "unknown model 'nope'; available: digits-ensemble, digits-student"),
        ("/models/nope/examples", 404, "unknown model 'nope'; available: digits-ensemble, digits-student"),
        ("/models/digits-student?version=3", 404, "unknown version 3 of digits-student; available: 1, 2"),
        ("/models/digits-student/examples?version=9", 404, "unknown version 9 of digits-student; available: 1, 2"),
        ("/models/digits-student?version=new", 422, 'version: got "new", expected a valid integer, unable to parse'),
        ("/models/digits-student?version=0", 422, 'version: got "0", expected greater than or equal to 1'),
        ("/models/digits-student/examples?count=0", 422, 'count: got "0", expected greater than or equal to 1'),
        ("/models/digits-student/examples?count=101", 422, 'count: got "101", expected less than or equal to 100'),
        (
            "/models/digits-student/examples?count=x&seed=-1",
            422,
            'count: got "x", expected a valid integer, unable to parse string as an integer; '
            'seed: got "-1", expected greater than or equal to 0',
        ),
    ],
)
async def test_what_does_not_exist_or_fit_is_said(path: str, status: int, text: str, client: httpx.AsyncClient):
    """With what there is or what was expected."""
    answer = await client.get(path)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert answer.json()["error"].startswith(text)


async def test_a_held_out_set_that_was_damaged_later_is_not_served(client: httpx.AsyncClient, tmp_path: Path):
    """Its checksum is right or nothing is."""
    (tmp_path / "digits-student" / "2" / HELD_OUT).write_bytes(b"other data")
    answer = await client.get("/models/digits-student/examples")
    assert answer.status_code == 500
    assert answer.json()["error"].startswith("digits-student/2: held-out.npz does not match its manifest: SHA-256 ")


async def test_a_model_without_a_held_out_set_has_no_examples(tmp_path: Path):
    """And the reference goes without."""
    version = write_model(tmp_path)
    manifest = read_manifest(version)
    files = {name: record for name, record in manifest.files.items() if name != HELD_OUT}
    write_manifest(version, manifest.model_copy(update={"files": files}))
    async with serving(tmp_path) as client:
        answer = await client.get("/models/digits-student/examples")
        assert (answer.status_code, answer.json()) == (404, {"error": "digits-student/1 has no held-out examples"})
        assert (await client.get("/openapi.json")).status_code == 200


def relabel(version: Path, name: str, write: Callable[[Path], object]) -> None:
    """Writes a file of a version anew, and its checksum into the manifest."""
    write(version / name)
    raw, manifest = (version / name).read_bytes(), read_manifest(version)
    record = FileRecord(bytes=len(raw), sha256=hashlib.sha256(raw).hexdigest())
    write_manifest(version, manifest.model_copy(update={"files": {**manifest.files, name: record}}))


@pytest.mark.parametrize(
    ("shape", "labels", "text"),
    [
        ((5, 4), [0] * 5, "holds inputs [5, 4] and labels [5], expected [5, 8, 8] and labels from 0 to 9"),
        ((5, 8, 8), [0] * 4, "holds inputs [5, 8, 8] and labels [4], expected [4, 8, 8] and labels from 0 to 9"),
        ((5, 8, 8), [0, 1, 2, 3, 10], "expected [5, 8, 8] and labels from 0 to 9"),
        ((0, 8, 8), [], "holds inputs [0, 8, 8] and labels [0]"),
    ],
)
async def test_a_held_out_set_that_does_not_fit_is_refused(
    shape: tuple[int, ...], labels: list[int], text: str, tmp_path: Path
):
    """Its checksum is right, its arrays are not those of the model."""
    arrays = np.zeros(shape, dtype=np.float32), np.array(labels, dtype=np.int64)
    relabel(write_model(tmp_path), HELD_OUT, lambda path: np.savez_compressed(path, inputs=arrays[0], labels=arrays[1]))
    async with serving(tmp_path) as client:
        answer = await client.get("/models/digits-student/examples")
    assert answer.status_code == 500
    assert text in answer.json()["error"]


async def test_a_held_out_set_that_is_no_npz_is_refused(tmp_path: Path):
    """Whatever its checksum; a pickle is not read."""
    relabel(write_model(tmp_path), HELD_OUT, lambda path: path.write_bytes(b"\x80\x04K\x01."))
    async with serving(tmp_path) as client:
        answer = await client.get("/models/digits-student/examples")
    assert answer.status_code == 500
    assert answer.json()["error"].startswith(
        "digits-student/1: held-out.npz is not a file of the arrays inputs and labels: "
    )


async def test_a_held_out_set_with_nan_is_refused(tmp_path: Path):
    """A graph that is asked with NaN answers with NaN."""
    inputs = np.full((3, 8, 8), np.nan, dtype=np.float32)
    relabel(write_model(tmp_path), HELD_OUT, lambda path: np.savez(path, inputs=inputs, labels=[0, 1, 2]))
    async with serving(tmp_path) as client:
        answer = await client.get("/models/digits-student/examples")
    assert (answer.status_code, answer.json()) == (
        500,
        {"error": "digits-student/1: held-out.npz holds NaN or infinity, expected finite inputs"},
    )
