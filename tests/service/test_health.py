"""service/health.py: alive at once, ready with models, and counters without paths that clients made up."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.repositories import examples, serving, write_model, write_pair

ROWS = examples(3)[0].tolist()


async def samples(client: httpx.AsyncClient, name: str) -> dict[tuple[str, ...], float]:
    """The values of one sample, by the values of its labels in the order of their names."""
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.name == name
    }


async def test_it_lives_at_once_and_is_ready_with_models(tmp_path: Path):
    """503 with the reason before and after."""
    async with serving(tmp_path) as client:
        assert (await client.get("/health/live")).json() == {"status": "live"}
        answer = await client.get("/health/ready")
        text = "there is no model yet: waiting for the trainer to publish one"
        assert (answer.status_code, answer.json(), answer.headers["retry-after"]) == (503, {"error": text}, "1")
        write_pair(tmp_path)
        client._transport.app.state.library.scan()
        answer = await client.get("/health/ready")
        assert (answer.status_code, answer.json()) == (200, {"status": "ready", "models": 2})
        for model in tmp_path.iterdir():
            shutil.rmtree(model)
        client._transport.app.state.library.scan()
        assert (await client.get("/health/ready")).status_code == 503
        assert (await client.get("/health/live")).status_code == 200


async def test_predictions_are_counted_by_model(tmp_path: Path):
    """Rows, and the seconds of queueing and computing."""
    write_pair(tmp_path)
    async with serving(tmp_path) as client:
        for model in ("digits-student", "digits-student", "digits-ensemble"):
            await client.post("/predict", json={"model": model, "inputs": ROWS})
        rows = await samples(client, "stillroom_predicted_rows_total")
        assert rows == {("digits-student",): 6.0, ("digits-ensemble",): 3.0}
        for kind in ("queue", "compute"):
            count = await samples(client, f"stillroom_{kind}_seconds_count")
            assert count == {("digits-student",): 2.0, ("digits-ensemble",): 1.0}
            assert min((await samples(client, f"stillroom_{kind}_seconds_sum")).values()) > 0


async def test_requests_are_counted_by_the_template_of_their_route(tmp_path: Path):
    """With method and status; what a client makes up is `other`."""
    write_model(tmp_path)
    async with serving(tmp_path, max_body_bytes=10_000) as client:
        await client.post("/predict", json={"inputs": ROWS})
        await client.post("/predict", content=b"{")
        await client.get("/predict")
        await client.get("/models/digits-student")
        await client.get("/models/made-up-name")
        await client.get("/made-up-page")
        await client.request("MADEUP", "/predict")
        await client.post("/predict", content=b" " * 10_001)
        counted = await samples(client, "stillroom_requests_total")
    assert counted == {
        ("POST", "/predict", "200"): 1.0,
        ("POST", "/predict", "400"): 1.0,
        ("GET", "/predict", "405"): 1.0,
        ("GET", "/models/{name}", "200"): 1.0,
        ("GET", "/models/{name}", "404"): 1.0,
        ("GET", "other", "404"): 1.0,
        ("other", "/predict", "405"): 1.0,
        ("POST", "other", "413"): 1.0,
    }


async def test_the_models_that_are_served_are_shown(tmp_path: Path):
    """By name, provider and version, as they are now."""
    first = write_model(tmp_path)
    async with serving(tmp_path) as client:
        write_model(tmp_path, version=2)
        client._transport.app.state.library.scan()
        served = await samples(client, "stillroom_models")
        assert served == {("digits-student", "CPUExecutionProvider", version): 1.0 for version in "12"}
        shutil.rmtree(first)
        client._transport.app.state.library.scan()
        assert list(await samples(client, "stillroom_models")) == [("digits-student", "CPUExecutionProvider", "2")]


async def test_two_apps_count_for_themselves(tmp_path: Path):
    """Each has its own registry."""
    async with serving(tmp_path) as one, serving(tmp_path) as other:
        await one.get("/health/live")
        assert not re.search("health/live", (await other.get("/metrics")).text)
