"""New versions are picked up while requests go on, and none of these fails."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import httpx

from service.manifest import GRAPH
from tests.repositories import examples, serving, write_model


async def test_versions_come_and_go_under_load_without_a_failed_request(tmp_path: Path):
    """Four clients ask all the while; ten versions follow each other, and each goes when the next one is there; then
    comes one that is broken, and another good one."""
    models = tmp_path / "models"
    write_model(models, seed=1)
    inputs, _ = examples(count=3)
    seen: set[int] = set()
    done = asyncio.Event()

    async with serving(models, reload_s=0.02) as client:

        async def ask() -> None:
            while not done.is_set():
                answer = await client.post("/predict", json={"inputs": inputs.tolist()})
                assert answer.status_code == 200, answer.text
                seen.add(answer.json()["version"])

        clients = [asyncio.create_task(ask()) for _ in range(4)]
        try:
            while 1 not in seen:  # on a busy machine the first answer may be long in coming
                await asyncio.sleep(0.01)
            for version in range(2, 12):
                write_model(models, version=version, seed=version)
                await _until(client, version=version)
                shutil.rmtree(models / "digits-student" / str(version - 1))
                while version not in seen:
                    await asyncio.sleep(0.01)
            _publish_broken(tmp_path, models, version=12)
            reasons = (await _until(client, refused=12))["refused"]
            write_model(models, version=13, seed=13)
            await _until(client, version=13)
        finally:
            done.set()
            await asyncio.gather(*clients)

    assert seen - {13} == set(range(1, 12))
    # A version whose folder is going while it is looked at may be refused for a moment, too.
    (reason,) = (one["reason"] for one in reasons if one["version"] == 12)
    assert reason.startswith("digits-student/12: model.onnx does not match its manifest")


def _publish_broken(folder: Path, models: Path, version: int) -> None:
    """A version whose graph is cut short, renamed into place as the trainer would."""
    broken = write_model(folder / "staging", version=version)
    (broken / GRAPH).write_bytes((broken / GRAPH).read_bytes()[:-10])
    broken.rename(models / "digits-student" / str(version))


async def _until(client: httpx.AsyncClient, version: int | None = None, refused: int | None = None) -> dict[str, Any]:
    """Waits until one version is the newest, or another is refused."""
    for _ in range(500):
        listed: dict[str, Any] = (await client.get("/models")).json()
        is_refused = refused is None or refused in [one["version"] for one in listed["refused"]]
        if is_refused and version in (None, listed["models"][0]["version"]):
            return listed
        await asyncio.sleep(0.02)
    raise AssertionError(f"version {version} or the refusal of {refused}: not after ten seconds, but {listed}")
