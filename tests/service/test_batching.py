"""service/batching.py: what queued while a model was busy runs next, and each request gets its own rows."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from service.batching import Batcher
from service.errors import BusyError, LateError, ModelError
from service.model import Model, Prediction, load_model
from service.statistics import Statistics
from tests.repositories import examples, known_logits, serving, write_model


class Watched(Model):
    """A real model that notes the size of each run, and whose runs wait until they are let go."""

    def __init__(self, model: Model) -> None:
        super().__init__(model.manifest, model.session)
        self.sizes: list[int] = []
        self.entered = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def run(self, inputs: NDArray[np.float32]) -> Prediction:
        self.sizes.append(len(inputs))
        self.entered.release()
        assert self.go.acquire(timeout=20)
        return super().run(inputs)


def made(max_batch: int = 64, *, max_queue: int = 1000, timeout_s: float = 20.0) -> Batcher:
    """One with counts of its own."""
    return Batcher(max_batch, Statistics(), max_queue=max_queue, timeout_s=timeout_s)


@pytest.fixture
def model(tmp_path: Path) -> Watched:
    return Watched(load_model(write_model(tmp_path), device="cpu"))


async def queue(batcher: Batcher, model: Watched, parts: list[NDArray[np.float32]]) -> list[asyncio.Task]:
    """One request that runs, and the others, in order, behind it."""
    tasks = [asyncio.create_task(batcher.predict(model, parts[0]))]
    await asyncio.to_thread(model.entered.acquire)
    tasks += [asyncio.create_task(batcher.predict(model, part)) for part in parts[1:]]
    await asyncio.sleep(0)
    return tasks


async def test_a_lone_request_runs_at_once_and_gets_what_numpy_computes(model: Watched):
    """With the times that it waited and ran."""
    model.go.release()
    inputs, _ = examples(5)
    answer = await made().predict(model, inputs)
    np.testing.assert_allclose(answer.prediction.logits_BK, known_logits(inputs), atol=1e-5)
    assert model.sizes == [5]
    assert answer.queue_s > 0
    assert answer.run.seconds > 0


async def test_what_queued_meanwhile_runs_next_in_one_batch(model: Watched):
    """In order, and each request gets its own rows."""
    parts = np.split(examples(12)[0], [1, 4, 6])
    tasks = await queue(made(), model, parts)
    model.go.release(2)
    answers = await asyncio.gather(*tasks)
    assert model.sizes == [1, 11]
    for part, answer in zip(parts, answers, strict=True):
        np.testing.assert_allclose(answer.prediction.logits_BK, known_logits(part), atol=1e-5)
    assert answers[1].run is answers[3].run


async def test_a_batch_holds_no_more_rows_than_allowed(model: Watched):
    """And never splits a request."""
    tasks = await queue(made(4), model, np.split(examples(12)[0], [1, 3, 5, 8]))
    model.go.release(9)
    await asyncio.gather(*tasks)
    assert model.sizes == [1, 4, 3, 4]


async def test_the_event_loop_goes_on_while_a_model_runs(model: Watched):
    """The run is in another thread: this line is reached while it waits."""
    (task,) = await queue(made(4), model, [examples(1)[0]])
    assert not task.done()
    model.go.release()
    await task


async def test_a_request_that_is_given_up_disturbs_no_other(model: Watched):
    """Neither one that waits, which is not run at all, nor one that runs."""
    tasks = await queue(made(), model, np.split(examples(6)[0], [1, 3]))
    tasks[0].cancel()
    tasks[1].cancel()
    model.go.release(2)
    answer = await tasks[2]
    assert answer.prediction.logits_BK.shape == (3, 10)
    assert model.sizes == [1, 3]
    assert tasks[0].cancelled()
    assert tasks[1].cancelled()


@pytest.mark.parametrize("path", ["/predict", "/v2/models/digits-student/infer"])
async def test_a_route_gives_up_what_its_client_no_longer_waits_for(path: str, tmp_path: Path):
    """Rows that wait are not run; it is counted as gone."""
    write_model(tmp_path / "models")
    async with serving(tmp_path / "models") as client:
        app = client._transport.app
        model = Watched(app.state.library.get())
        app.state.library.get = lambda *_: model
        first = asyncio.create_task(_ask(app, path, asyncio.Event()))
        await asyncio.to_thread(model.entered.acquire)
        await _ask(app, path, LEAVES_AT_ONCE)
        model.go.release(9)
        await first
        assert model.sizes == [1]
        assert app.state.statistics.of(model).failures["gone"].count == 1


LEAVES_AT_ONCE = asyncio.Event()
LEAVES_AT_ONCE.set()


async def _ask(app: Any, path: str, gone: asyncio.Event) -> None:
    """As a server would, over ASGI, for a client that goes when that is set."""
    rows = examples(1)[0].reshape(1, -1).tolist()
    given = {"name": "input", "shape": [1, 64], "datatype": "FP32", "data": rows}
    body = json.dumps({"inputs": rows if path == "/predict" else [given]}).encode()
    messages = iter([{"type": "http.request", "body": body}])

    async def receive() -> dict[str, Any]:
        for message in messages:
            return message
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        """To nobody."""

    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": [], "root_path": ""}
    await app({**scope, "http_version": "1.1", "scheme": "http", "server": ("service", 80)}, receive, send)


async def test_two_models_do_not_wait_for_each_other(model: Watched, tmp_path: Path):
    """Each has its own queue."""
    batcher, other = made(), load_model(write_model(tmp_path, "other"), device="cpu")
    (task,) = await queue(batcher, model, [examples(1)[0]])
    await batcher.predict(other, examples(1)[0])
    assert not task.done()
    model.go.release()
    await task


async def test_a_full_queue_refuses_at_once_and_the_next_model_goes_on(model: Watched, tmp_path: Path):
    """Rows are counted, not requests; what waits already is answered."""
    batcher, other = made(max_queue=4), load_model(write_model(tmp_path, "other"), device="cpu")
    tasks = await queue(batcher, model, np.split(examples(5)[0], [1, 4]))
    with pytest.raises(BusyError, match=r"^4 rows wait for digits-student/1 already: it is too busy, try again$"):
        await batcher.predict(model, examples(1)[0])
    assert batcher._statistics.of(model).waiting == 4
    await batcher.predict(other, examples(1)[0])
    model.go.release(2)
    await asyncio.gather(*tasks)
    assert batcher._statistics.of(model).waiting == 0


async def test_a_request_larger_than_the_queue_runs_where_nothing_waits(model: Watched):
    """Otherwise it could never run."""
    model.go.release()
    assert (await made(max_queue=2).predict(model, examples(5)[0])).rows == slice(0, 5)


async def test_who_waits_for_too_long_is_told_so(model: Watched):
    """Both the one that runs and the one that waits; and the model is asked no more than it need be."""
    batcher = made(timeout_s=0.05)
    tasks = await queue(batcher, model, np.split(examples(3)[0], [1]))
    for task in tasks:
        with pytest.raises(LateError, match=r"^digits-student/1 gave no answer within 0\.05 s"):
            await task
    model.go.release(9)
    await batcher.predict(model, examples(1)[0])
    assert model.sizes == [1, 1]


async def test_a_quick_model_runs_in_the_event_loop(tmp_path: Path):
    """No thread is started for it; what was sent in one turn of the loop runs at once."""
    model, batcher, parts = load_model(write_model(tmp_path), device="cpu"), made(), np.split(examples(4)[0], 4)
    model.quick_rows = 4
    threads = threading.active_count()
    answers = await asyncio.gather(*(batcher.predict(model, part) for part in parts))
    assert len({id(answer.run) for answer in answers}) == 1
    assert threading.active_count() == threads
    for part, answer in zip(parts, answers, strict=True):
        np.testing.assert_allclose(answer.prediction.logits_BK, known_logits(part), atol=1e-5)


def picky_graph() -> bytes:
    """logits = table[largest input]: it fails where that is above 16, as no check of the inputs can foresee."""
    table = np.zeros((17, 10), dtype=np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["input"], ["flat"], axis=1),
            helper.make_node("ReduceMax", ["flat", "axes"], ["largest"], keepdims=0),
            helper.make_node("Cast", ["largest"], ["index"], to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "index"], ["logits"], axis=0),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "picky",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["B", 8, 8])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", 10]) for name in ("probabilities", "logits")],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([1]), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("quick_rows", [0, 100])
async def test_a_request_on_which_the_graph_fails_fails_alone(
    quick_rows: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Those that shared its batch are answered, and those after it; the reason is in the log."""
    model = load_model(write_model(tmp_path, graph=picky_graph()), device="cpu")
    model.quick_rows = quick_rows
    batcher, good = made(), np.ones((1, 8, 8), dtype=np.float32)
    one, bad, two = await asyncio.gather(
        *(batcher.predict(model, inputs) for inputs in (good, 99 * good, 2 * good)), return_exceptions=True
    )
    assert isinstance(bad, ModelError)
    assert str(bad) == "digits-student/1: the graph failed on these inputs; the log has the reason"
    assert not isinstance(one, BaseException)
    assert not isinstance(two, BaseException)
    assert (await batcher.predict(model, good)).prediction.logits_BK.shape == (1, 10)
    assert "indices element out of data bounds" in caplog.text
