"""Comparisons as jobs over the real app: queued, followed, cancelled, kept, taken up again after a restart."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.comparison.exclusive import Exclusive
from service.comparison.measurement import least_s
from service.comparison.plan import Plan
from service.comparison.store import MOST_ACTIVE, MOST_KEPT, Store, place_of_store
from service.errors import BusyError, NotFoundError, SettingsError
from tests.repositories import examples, linear, serving, write_model, write_pair

QUICK: dict[str, Any] = {"blocks": 3, "batch": 1, "scenarios": []}
LONG: dict[str, Any] = {"blocks": 100, "batch": 2, "scenarios": []}
AT_ONCE = {"Prefer": "respond-async"}


async def until(client: httpx.AsyncClient, path: str, *states: str) -> dict[str, Any]:
    for _ in range(600):
        job: dict[str, Any] = (await client.get(path)).json()
        if job["state"] in states:
            return job
        await asyncio.sleep(0.05)
    raise AssertionError(f"{path} is still {job['state']}, expected {states}")


async def test_a_job_is_followed_to_its_report(tmp_path: Path) -> None:
    write_pair(tmp_path)
    async with serving(tmp_path) as client:
        answer = await client.post("/compare", json={**QUICK, "margin": 90}, headers=AT_ONCE)
        job, path = answer.json(), answer.headers["location"]
        assert (answer.status_code, job["state"], job["report"]) == (202, "queued", None)
        assert path == f"/compare/{job['id']}"
        assert job["models"] == ["digits-student/1", "digits-ensemble/1"]
        early = await client.get(f"{path}/report.md")
        assert (early.status_code, early.json()["error"].split(":")[0]) == (
            404,
            f"the comparison {job['id']} has no report",
        )
        events = (await client.get(f"{path}/events")).text
        kinds = [line.removeprefix("event: ") for line in events.splitlines() if line.startswith("event: ")]
        told = [json.loads(line.removeprefix("data: ")) for line in events.splitlines() if line.startswith("data: ")]
        assert kinds == ["progress"] * (len(kinds) - 1) + ["end"]
        assert len(kinds) >= 3
        done = [one["progress"]["done"] for one in told if one["progress"]]
        assert done == sorted(done)
        assert done[-1] > 0
        assert all(one["progress"]["done"] <= one["progress"]["total"] for one in told[1:] if one["progress"])
        assert told[-1]["state"] == "done"
        found = (await client.get(path)).json()
        assert found["report"]["id"] == job["id"]
        assert found["verdict"] == found["report"]["pairs"][0]["verdict"]["text"]
        assert "one row at a time" in found["headline"].lower()  # whichever of the two was the faster
        assert found["started"] <= found["ended"]
        assert (await client.get(f"{path}/report.json")).json() == found["report"]
        page = await client.get(f"{path}/report.html")
        assert page.headers["content-type"].startswith("text/html")
        assert page.text.startswith("<!doctype html>")
        text = await client.get(f"{path}/report.md")
        assert text.headers["content-type"].startswith("text/markdown")
        assert text.text.startswith("# digits-student/1")
        raw = (await client.get(f"{path}/samples.npz")).content
        other = (await client.get(f"{path}/report.pdf")).json()
        assert other == {"error": "no report.pdf; there are report.json, report.html, report.md"}
        await _check_samples(raw, found["report"])
        listed = (await client.get("/compare")).json()["comparisons"]
        assert [(one["id"], one["report"]) for one in listed] == [(job["id"], None)]


async def _check_samples(raw: bytes, report: dict[str, Any]) -> None:
    with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
        for index, model in enumerate(report["models"]):
            kept = [arrays[f"{index}-{model['name']}/batch-1/{block}"] for block in range(3)]
            assert np.concatenate(kept).mean() * 1e3 == pytest.approx(model["latency_ms"]["mean"], rel=1e-4)
            assert sum(map(len, kept)) == model["calls"]


async def test_of_two_comparisons_one_waits_and_the_service_answers_meanwhile(tmp_path: Path) -> None:
    write_pair(tmp_path)
    async with serving(tmp_path) as client:
        first = asyncio.create_task(client.post("/compare", json={**QUICK, "blocks": 10}))
        while not (await client.get("/compare")).json()["comparisons"]:
            await asyncio.sleep(0.01)
        second = await client.post("/compare", json=QUICK)
        assert second.status_code == 202  # not at once: another one runs
        assert second.headers["retry-after"] == "1"
        asked = await client.post("/predict", json={"inputs": examples(1)[0].tolist()})
        assert asked.status_code == 200
        assert not first.done()
        assert (await first).status_code == 200
        assert (await until(client, second.headers["location"], "done"))["report"] is not None


async def test_a_comparison_that_takes_longer_than_was_known_becomes_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a minute, here after half a second of it; it goes on, and the answer says for about how long."""
    write_pair(tmp_path)
    monkeypatch.setattr("service.comparison.api.AT_ONCE_S", 0.5)
    async with serving(tmp_path) as client:
        answer = await client.post("/compare", json={**QUICK, "blocks": 3, "calls": 100_000})
        assert answer.status_code == 202
        assert 1 <= int(answer.headers["retry-after"]) < 60
        assert answer.json()["state"] in ("queued", "running")
        path = answer.headers["location"]
        assert path == f"/compare/{answer.json()['id']}"
        assert (await until(client, path, "done"))["report"]["settings"]["request"]["calls"] == 100_000


def test_many_calls_of_slow_models_are_known_to_take_long() -> None:
    """A block of 0.2 s has 2,000 calls of 0.1 ms, of which a tenth does not count: 1,000,000 take 556 rounds."""
    plan = Plan(batch=64, blocks=10, seed=0, max_batch=64, calls=1_000_000)
    assert least_s(2, plan) == pytest.approx(2 * 2 * 10 * 0.2)
    assert least_s(2, plan, 1e-4) == pytest.approx(2 * 2 * 556 * 0.2)


async def test_a_long_comparison_becomes_a_job_and_can_be_cancelled(tmp_path: Path) -> None:
    """So can one that waits; what was cancelled is told, and then forgotten."""
    write_pair(tmp_path)
    async with serving(tmp_path) as client:
        paths = [(await client.post("/compare", json=LONG)).headers["location"] for _ in range(2)]
        await until(client, paths[0], "running")
        assert (await client.delete(paths[1])).json()["state"] == "queued"
        assert (await client.delete(paths[0])).json()["state"] == "running"
        for path in paths:
            job = await until(client, path, "cancelled")
            assert (job["error"], job["report"]) == ("the comparison was cancelled", None)
        assert (await client.delete(paths[0])).status_code == 200
        gone = await client.get(paths[0])
        identity = paths[0].rpartition("/")[2]
        assert (gone.status_code, gone.json()) == (
            404,
            {"error": f"no comparison '{identity}'; GET /compare lists those that are kept"},
        )


async def test_what_waits_or_runs_is_taken_up_again_by_the_next_service(tmp_path: Path) -> None:
    """And reports outlive the service that made them."""
    write_pair(tmp_path / "models")
    state = tmp_path / "state"
    state.mkdir()
    async with serving(tmp_path / "models", state_dir=state) as client:
        report = (await client.post("/compare", json=QUICK)).json()
        body = {**QUICK, "blocks": 8, "limit": 7, "seed": 3}
        path = (await client.post("/compare", json=body, headers=AT_ONCE)).headers["location"]
        await until(client, path, "running")
    async with serving(tmp_path / "models", state_dir=state) as client:
        assert (await client.get(f"/compare/{report['id']}")).json()["report"] == report
        job = await until(client, path, "done")
        assert (job["report"]["data"]["examples"], job["report"]["data"]["seed"]) == (7, 3)


async def test_a_comparison_that_fails_says_why_to_whoever_waits_and_to_whoever_looks(tmp_path: Path) -> None:
    write_pair(tmp_path)
    weights, _ = linear((8, 8), 10, seed=1)
    inputs = [(3e38 * np.sign(weights[:, 0])).tolist()]
    async with serving(tmp_path) as client:
        body = {"models": ["digits-student", "digits-ensemble"], "inputs": inputs, **QUICK}
        answer = await client.post("/compare", json=body)
        assert answer.status_code == 422
        assert "gives no finite answer to example 0" in answer.json()["error"]
        job = (await client.get("/compare")).json()["comparisons"][0]
        assert (job["state"], job["error"]) == ("failed", answer.json()["error"])


async def test_a_report_of_another_version_is_handed_out_as_it_was_kept(tmp_path: Path) -> None:
    write_pair(tmp_path)
    store = Store(tmp_path / "comparisons.sqlite3")
    job = store.add(["a/1", "b/1"], b"")
    store.next()
    store.done(job.id, '{"schema":"stillroom.compare/1","older":true}', b"", "headline", None)
    store.close()
    async with serving(tmp_path, state_dir=tmp_path) as client:
        assert (await client.get(f"/compare/{job.id}")).json()["report"]["older"] is True
        assert (await client.get(f"/compare/{job.id}/report.json")).json()["older"] is True
        answer = await client.get(f"/compare/{job.id}/report.html")
    assert (answer.status_code, answer.json()) == (
        404,
        {"error": "another version of the service made this report, which has other fields: its report.json is there"},
    )


async def test_a_model_that_was_replaced_meanwhile_is_not_compared(tmp_path: Path) -> None:
    student = write_pair(tmp_path)[1]
    async with serving(tmp_path) as client:
        await client.post("/compare", json=LONG)
        path = (await client.post("/compare", json=QUICK, headers=AT_ONCE)).headers["location"]
        shutil.rmtree(student)
        write_model(tmp_path, "digits-student", seed=7)
        for job in (await client.get("/compare")).json()["comparisons"]:
            if f"/compare/{job['id']}" != path:
                await client.delete(f"/compare/{job['id']}")
        job = await until(client, path, "failed")
    assert job["error"] == "digits-student/1 is not the model any more that was to be compared: ask again"


def test_a_state_file_that_cannot_be_used_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "comparisons.sqlite3").write_bytes(b"no database" * 1000)
    with pytest.raises(
        SettingsError, match=r"^--state-dir: the comparisons in .* cannot be used \(file is not a database"
    ):
        Store(tmp_path / "comparisons.sqlite3").check()
    with pytest.raises(SettingsError, match=r"^--state-dir: cannot write .*/none/lock': No such file or directory$"):
        Exclusive(tmp_path / "none" / "lock")
    good = Store(tmp_path / "good.sqlite3")
    good.check()
    assert (tmp_path / "good.sqlite3").stat().st_mode & 0o777 == 0o600


def test_a_full_store_sends_the_next_one_away() -> None:
    store = Store(None)
    for _ in range(MOST_ACTIVE):
        store.add(["a/1", "b/1"], b"")
    with pytest.raises(BusyError, match=r"^8 comparisons wait or run already: try again in 10 s$"):
        store.add(["a/1", "b/1"], b"")
    store.close()


def test_the_oldest_comparisons_go_and_those_that_wait_stay(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.sqlite3")
    waiting = store.add(["a/1", "b/1"], b"task")
    identities = []
    for _ in range(MOST_KEPT + 3):
        identities.append(store.add(["a/1", "b/1"], b"").id)
        store.remove(identities[-1])
    assert len(store.jobs()) == MOST_KEPT + 1
    with pytest.raises(NotFoundError):
        store.job(identities[2])
    assert store.job(identities[3]).error == "the comparison was cancelled"
    assert store.report(identities[3]) is None
    found = store.next()
    assert found is not None
    assert (found[0].id, found[0].state, found[1]) == (waiting.id, "running", b"task")
    store.close()


def test_two_processes_see_each_others_comparisons(tmp_path: Path) -> None:
    one, other = Store(tmp_path / "store.sqlite3"), Store(tmp_path / "store.sqlite3")
    job = one.add(["a/1", "b/1"], b"task")
    assert other.job(job.id) == job
    other.remove(job.id)
    assert one.job(job.id).state == "cancelled"
    one.close()
    other.close()


def test_several_workers_without_a_state_folder_share_a_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert place_of_store(None, 1) is None
    assert place_of_store(tmp_path, 2) == tmp_path / "comparisons.sqlite3"
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    place = place_of_store(None, 2)
    assert place is not None
    assert place.parent.parent == tmp_path
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(SettingsError, match=r"^--workers: 2 of them share a file.* give --state-dir$"):
        place_of_store(None, 2)
