"""A cascade over HTTP and in the queues: every route takes it, and it waits, fails and is given up like a model."""

from __future__ import annotations

import asyncio
import json
import weakref
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special

from service.batching import Batcher
from service.cascade import Cascade
from service.errors import BusyError, LateError, ModelError
from service.manifest import CascadeRule, read_manifest, write_manifest
from service.model import load_model
from service.statistics import Statistics
from service.tracing import Tracing
from tests.repositories import known_logits, rule_for, write_cascade, write_model
from tests.repositories import serving as app_over
from tests.served import free_port, serving
from tests.service.test_batching import LEAVES_AT_ONCE, Watched, _ask
from tests.service.test_cascade import DEFERRED, EXPECTED, FIRST, INPUTS, SURE, cascade_of, probabilities
from tests.service.test_health import samples


def watched(root: Path, **rule: float) -> tuple[Cascade, Watched, Watched]:
    """A cascade of models whose runs wait until they are let go."""
    ensemble, student = (Watched(load_model(folder, device="cpu")) for folder in write_cascade(root, **rule))
    assert student.manifest.cascade is not None
    return Cascade(student, ensemble, student.manifest.cascade), student, ensemble


def made(statistics: Statistics | None = None, *, max_queue: int = 1000, timeout_s: float = 20.0) -> Batcher:
    return Batcher(64, statistics or Statistics(), max_queue=max_queue, timeout_s=timeout_s)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Of a service over a cascade, on a port of its own."""
    models = tmp_path_factory.mktemp("models")
    write_cascade(models)
    with serving(models, free_port(), "--max-batch", "40") as client:
        yield client


def flat(inputs: NDArray[np.float32]) -> list[list[int]]:
    return inputs.reshape(len(inputs), -1).astype(int).tolist()


def infer(binary: bool) -> tuple[bytes, dict[str, str]]:
    given = {"name": "input", "shape": [40, 8, 8], "datatype": "FP32"}
    if not binary:
        return json.dumps({"inputs": [{**given, "data": flat(INPUTS)}]}).encode(), {}
    sized = {**given, "parameters": {"binary_data_size": INPUTS.nbytes}}
    head = json.dumps({"inputs": [sized], "parameters": {"binary_data_output": True}}).encode()
    return head + INPUTS.tobytes(), {"Inference-Header-Content-Length": str(len(head))}


@pytest.mark.parametrize("chunked", [False, True], ids=["direct", "fastapi"])
def test_predict_says_which_rows_were_deferred(chunked: bool, client: httpx.Client):
    """The answers are numpy's, softened too; both in front of FastAPI and behind it."""
    body = json.dumps({"model": "digits-cascade", "inputs": flat(INPUTS), "temperature": 2.0}).encode()
    answer = client.post("/predict", content=iter([body]) if chunked else body, headers={"X-Request-ID": "mine"})
    found = answer.json()
    assert list(found) == ["model", "version", "labels", "probabilities", "top_k", "deferred", "timings_ms"]
    assert (found["model"], found["version"], answer.headers["x-request-id"]) == ("digits-cascade", 1, "mine")
    assert found["deferred"] == DEFERRED.tolist()
    assert found["labels"] == EXPECTED.argmax(axis=1).astype(str).tolist()
    np.testing.assert_allclose(found["probabilities"], probabilities(2.0), atol=1e-6)


def test_predict_says_so_where_none_was_deferred_and_for_no_other_model(client: httpx.Client):
    """A row of which the student is sure, and models without a rule."""
    asked = {"inputs": flat(INPUTS[SURE : SURE + 1])}
    assert client.post("/predict", json={**asked, "model": "digits-cascade", "version": 1}).json()["deferred"] == [
        False
    ]
    for model in ("digits-student", "digits-ensemble"):
        assert "deferred" not in client.post("/predict", json={**asked, "model": model}).json()


@pytest.mark.parametrize("chunked", [False, True], ids=["direct", "fastapi"])
@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("path", ["digits-cascade", "digits-cascade/versions/1"])
def test_the_protocol_takes_it_like_any_model(path: str, binary: bool, chunked: bool, client: httpx.Client):
    """In JSON and in binary, by its name and by its version."""
    body, headers = infer(binary)
    url = f"/v2/models/{path}/infer"
    answer = client.post(url, content=iter([body]) if chunked else body, headers=headers)
    if binary:
        length = int(answer.headers["Inference-Header-Content-Length"])
        head = json.loads(answer.content[:length])
        tensors = np.frombuffer(answer.content[length:], "<f4").reshape(2, 40, 10)
    else:
        head = answer.json()
        tensors = np.array([output["data"] for output in head["outputs"]]).reshape(2, 40, 10)
    assert (head["model_name"], head["model_version"]) == ("digits-cascade", "1")
    np.testing.assert_allclose(tensors, [probabilities(), EXPECTED], atol=1e-5)


def test_requests_that_share_a_run_each_get_their_own_rows(client: httpx.Client):
    """Thirty at once, for the cascade and its student, in whatever order they are run."""

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=client.base_url, timeout=20) as many:
            names = ["digits-cascade", "digits-student"]
            asked = [{"model": names[at % 2], "inputs": flat(INPUTS[at : at + 10])} for at in range(30)]
            return await asyncio.gather(*(many.post("/predict", json=body) for body in asked))

    for at, answer in enumerate(asyncio.run(ask())):
        expected = EXPECTED if at % 2 == 0 else known_logits(INPUTS, seed=1)
        np.testing.assert_allclose(
            answer.json()["probabilities"], special.softmax(expected[at : at + 10], axis=1), atol=1e-5
        )


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"inputs": []}, 422, "inputs: got 0 rows, expected 1 to 40"),
        ({"inputs": flat(INPUTS[:1]), "version": 9}, 404, "unknown version 9 of digits-cascade; available: 1"),
        (
            {"inputs": flat(INPUTS[:1]), "top_k": 11},
            422,
            "top_k: got 11, expected 1 to 10, the classes of digits-cascade",
        ),
    ],
)
def test_what_is_wrong_with_a_request_is_said(body: dict[str, Any], status: int, text: str, client: httpx.Client):
    """By the name that was asked."""
    answer = client.post("/predict", json={"model": "digits-cascade", **body})
    assert answer.status_code == status
    assert text in answer.json()["error"]


def test_it_is_listed_where_models_are(client: httpx.Client):
    """Apart from the models, which it is made of."""
    (entry,) = client.get("/models").json()["cascades"]
    created = client.get("/models/digits-student").json()["created"]
    assert entry == {
        "name": "digits-cascade",
        "version": 1,
        "versions": [1],
        "student": {"name": "digits-student", "version": 1},
        "ensemble": {"name": "digits-ensemble", "version": 1},
        "threshold": 0.8,
        "temperature": 0.5,
        "created": created,
    }
    assert client.get("/models/digits-cascade").json() == entry
    drawn = client.get("/models/digits-cascade/examples?count=3").json()
    assert drawn["model"] == "digits-cascade"
    assert drawn["examples"] == client.get("/models/digits-student/examples?count=3").json()["examples"]


def test_the_protocol_tells_of_it(client: httpx.Client):
    """Its metadata are the student's, its platform and its parameters say what it is."""
    assert client.get("/v2/models").json() == {"models": ["digits-ensemble", "digits-student", "digits-cascade"]}
    metadata = client.get("/v2/models/digits-cascade").json()
    student = client.get("/v2/models/digits-student").json()
    assert metadata == {**student, "name": "digits-cascade", "platform": "stillroom_cascade"}
    assert client.get("/v2/models/digits-cascade/ready").json() == {"name": "digits-cascade", "ready": True}
    config = client.get("/v2/models/digits-cascade/versions/1/config").json()
    assert (config["name"], config["max_batch_size"]) == ("digits-cascade", 40)
    assert config["parameters"] == {
        "student": {"string_value": "digits-student/1"},
        "ensemble": {"string_value": "digits-ensemble/1"},
        "threshold": {"string_value": "0.8"},
        "temperature": {"string_value": "0.5"},
    }
    index = client.post("/v2/repository/index").json()
    assert {"name": "digits-cascade", "version": "1", "state": "READY", "reason": ""} in index
    assert client.get("/v2/models/nope").json()["error"].startswith("unknown model 'nope'; available: digits-cascade, ")


def counted(client: httpx.Client) -> list[float]:
    text = client.get("/metrics").text
    names = [
        f'stillroom_cascade_rows_total{{answered_by="{by}",model="digits-cascade",version="1"}} '
        for by in ("student", "ensemble")
    ]
    names += [f'stillroom_predicted_rows_total{{model="digits-{by}"}} ' for by in ("student", "ensemble")]
    return [float(text.partition(name)[2].partition("\n")[0] or 0) for name in names]


def test_the_share_deferred_is_counted(client: httpx.Client):
    """Rows are counted with the models that answered them, too; the protocol's statistics have the cascade's own."""
    before, stats = counted(client), client.get("/v2/models/digits-cascade/stats").json()["model_stats"][0]
    client.post("/predict", json={"model": "digits-cascade", "inputs": flat(INPUTS)})
    deferred = int(DEFERRED.sum())
    assert np.subtract(counted(client), before).tolist() == [40 - deferred, deferred, 40, deferred]
    after = client.get("/v2/models/digits-cascade/stats").json()["model_stats"][0]
    assert (after["name"], after["execution_count"]) == ("digits-cascade", 0)
    assert after["inference_count"] - stats["inference_count"] == 40
    assert after["inference_stats"]["success"]["count"] - stats["inference_stats"]["success"]["count"] == 1


@pytest.fixture
async def watched_app(tmp_path: Path) -> AsyncIterator[tuple[Any, Watched, Watched]]:
    """The app over a cascade of models that wait to be let go."""
    cascade, student, ensemble = watched(tmp_path, threshold=1.0, temperature=10.0)  # every row is deferred
    async with app_over(tmp_path) as client:
        app = client._transport.app
        app.state.library.get = lambda *_: cascade
        yield app, student, ensemble


@pytest.mark.parametrize("where", ["student", "ensemble"])
@pytest.mark.parametrize("path", ["/predict", "/v2/models/digits-cascade/infer"])
async def test_what_nobody_waits_for_is_given_up(path: str, where: str, watched_app: tuple[Any, Watched, Watched]):
    """Whether its rows wait for the student or for the ensemble: they are not run, and it is counted there as gone."""
    app, student, ensemble = watched_app
    model = student if where == "student" else ensemble
    first = asyncio.create_task(app.state.batcher.predict(model, INPUTS[:1]))  # keeps that one busy
    await asyncio.to_thread(model.entered.acquire)
    if where == "student":
        await _ask(app, path, LEAVES_AT_ONCE)
    else:
        leaves = asyncio.Event()
        asked = asyncio.create_task(_ask(app, path, leaves))
        await asyncio.to_thread(student.entered.acquire)
        student.go.release()
        await until(lambda: app.state.batcher._lines[ensemble].rows == 1)
        leaves.set()
        await asked
    model.go.release(9)
    await first
    await until(lambda: not app.state.batcher._lines)
    assert model.sizes == [1]
    assert app.state.statistics.of(model).failures["gone"].count == 1
    assert "digits-cascade/1" not in app.state.statistics.counts.cascades


async def until(is_so: Any) -> None:
    for _ in range(400):
        if is_so():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come about in two seconds")


async def test_a_full_line_of_the_ensemble_is_said(tmp_path: Path):
    """With the ensemble's name; the cascade's failure is counted, the student goes on."""
    cascade, student, ensemble = watched(tmp_path)
    statistics = Statistics()
    batcher = made(statistics, max_queue=1)
    busy = [asyncio.create_task(batcher.predict(ensemble, INPUTS[:1]))]
    await asyncio.to_thread(ensemble.entered.acquire)
    busy.append(asyncio.create_task(batcher.predict(ensemble, INPUTS[:1])))
    await asyncio.sleep(0)
    student.go.release(9)
    with pytest.raises(BusyError, match=r"^1 rows wait for digits-ensemble/1 already: it is too busy, try again$"):
        await batcher.predict(cascade, INPUTS[FIRST : FIRST + 1])
    assert statistics.counts.cascades["digits-cascade/1"].failures["model"].count == 1
    answer = await batcher.predict(cascade, INPUTS[SURE : SURE + 1])
    assert answer.deferred_N.tolist() == [False]
    ensemble.go.release(9)
    await asyncio.gather(*busy)


async def test_a_full_line_of_the_student_is_said_at_once(tmp_path: Path):
    """As for the student itself."""
    cascade, student, _ = watched(tmp_path)
    batcher = made(max_queue=1)
    busy = [asyncio.create_task(batcher.predict(student, INPUTS[:1]))]
    await asyncio.to_thread(student.entered.acquire)
    busy.append(asyncio.create_task(batcher.predict(student, INPUTS[:1])))
    await asyncio.sleep(0)
    with pytest.raises(BusyError, match=r"^1 rows wait for digits-student/1 already"):
        await batcher.predict(cascade, INPUTS[:1])
    student.go.release(9)
    await asyncio.gather(*busy)


async def test_its_time_is_one_whichever_model_is_slow(tmp_path: Path):
    """What the student took is not given again for the ensemble; the text names the one that was waited for."""
    cascade, student, ensemble = watched(tmp_path)
    batcher = made(timeout_s=0.3)
    asked = asyncio.create_task(batcher.predict(cascade, INPUTS[FIRST : FIRST + 1]))
    await asyncio.sleep(0.2)
    behind = asyncio.create_task(batcher.predict(ensemble, INPUTS[:1]))  # younger, and runs first
    await asyncio.to_thread(ensemble.entered.acquire)
    student.go.release()
    with pytest.raises(LateError, match=r"^digits-ensemble/1 gave no answer within 0\.3 s"):
        await asked
    assert not behind.done()
    ensemble.go.release(9)
    await behind


async def test_a_graph_that_fails_fails_the_request(tmp_path: Path):
    """With the name of the one that did."""
    cascade, student, _ = watched(tmp_path)
    wrong = np.zeros((1, 5, 5), dtype=np.float32)
    student.go.release(9)
    with pytest.raises(ModelError, match=r"^digits-student/1: the graph failed on these inputs"):
        await made().predict(cascade, wrong)


async def test_an_old_cascade_is_not_held_on_to(tmp_path: Path):
    """After its last answer, and after one that was given up, nothing knows its models, without a collection."""
    cascade = cascade_of(tmp_path)
    batcher = made()
    answer = await batcher.predict(cascade, INPUTS)
    np.testing.assert_allclose(answer.prediction.logits_BK, EXPECTED, atol=1e-5)
    batcher.submit(cascade, INPUTS, lambda _: None).given_up = True
    await until(lambda: not batcher._lines)
    known = weakref.ref(cascade)
    del cascade, answer
    assert known() is None


async def test_spans_of_both_runs_belong_to_the_request(tmp_path: Path):
    """A wait and a run of each model, with its name and its rows."""
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    cascade, kept = cascade_of(tmp_path), InMemorySpanExporter()
    batcher = made()
    batcher.tracing = Tracing(SimpleSpanProcessor(kept))
    spans = [batcher.tracing.begin({}) for _ in range(2)]
    waiting = []
    for span, rows in zip(spans, (INPUTS, INPUTS[:9]), strict=True):
        with batcher.tracing.within(span):
            waiting.append(asyncio.create_task(batcher.predict(cascade, rows)))
    await asyncio.gather(*waiting)
    for span, mask in zip(spans, (DEFERRED, DEFERRED[:9]), strict=True):
        mine = [found for found in kept.get_finished_spans() if found.parent.span_id == span.context.span_id]
        told = [(one.name, one.attributes["stillroom.model"], one.attributes["stillroom.rows"]) for one in mine]
        expected = [("digits-student", len(mask)), ("digits-ensemble", mask.sum())]
        assert told == [(name, *each) for each in expected for name in ("queue", "compute")]
    batcher.tracing.stop()


async def test_a_new_rule_is_served_without_a_restart(tmp_path: Path):
    """As a new version of the student; the old one answers by the old rule, by its number."""
    ensemble, student = write_cascade(tmp_path)
    async with app_over(tmp_path) as client:
        rule = CascadeRule(**{**rule_for(ensemble).model_dump(), "threshold": 0.0})
        write_model(tmp_path, version=2, seed=1, teacher=ensemble, cascade=rule)
        client._transport.app.state.library.scan()
        asked = {"model": "digits-cascade", "inputs": flat(INPUTS)}
        found = [(await client.post("/predict", json={**asked, **other})).json() for other in ({}, {"version": 1})]
        assert [sum(answer["deferred"]) for answer in found] == [0, DEFERRED.sum()]
        rows = await samples(client, "stillroom_cascade_rows_total")
        assert rows["ensemble", "digits-cascade", "2"] == 0
        assert rows["student", "digits-cascade", "2"] == 40
        write_manifest(student, read_manifest(student).model_copy(update={"cascade": None}))
        client._transport.app.state.library.scan()
        answer = await client.post("/predict", json={**asked, "version": 1})
        assert answer.json() == {"error": "unknown version 1 of digits-cascade; available: 2"}
