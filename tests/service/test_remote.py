"""service/comparison/remote.py: a model behind a URL answers as its graph does, on any server; else it says why."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnxruntime
import pytest

from service.comparison import load
from service.comparison.arrivals import poisson
from service.comparison.remote import connect
from service.errors import RemoteError
from service.measures import log_softmax
from tests.repositories import examples, known_probabilities, write_model
from tests.served import free_port, serving
from tests.service.scripted import Request, answer, scripted

INPUTS = examples(4)[0]
MODEL = "/v2/models/m"


# Our own service, over a real socket.


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, onnxruntime.InferenceSession]]:
    """The service's URL, and its model run by onnxruntime itself."""
    models, port = tmp_path_factory.mktemp("models"), free_port()
    folder = write_model(models, "digits-student", 2)
    with serving(models, port, "--threads", "1", "--max-batch", "16"):
        yield f"http://127.0.0.1:{port}", onnxruntime.InferenceSession(folder / "model.onnx")


@pytest.mark.parametrize("encoding", ["binary", "JSON"])
@pytest.mark.parametrize("version", [None, 2])
def test_our_service_answers_as_onnxruntime_does(ours: Any, encoding: Any, version: int | None):
    """To the bit in both encodings."""
    with connect(ours[0], "digits-student", version) as model:
        assert (model.encoding, model.classes, model.interface.max_rows) == ("binary", 10, 16)
        model.encoding = encoding
        found = model.run(INPUTS)
    expected = ours[1].run(["probabilities", "logits"], {"input": INPUTS})
    assert np.array_equal(found.probabilities_BK, expected[0])
    assert np.array_equal(found.logits_BK, expected[1])
    assert (found.logits_BK.dtype, model.version) == (np.float32, "2")


@pytest.mark.parametrize("encoding", ["binary", "JSON"])
def test_prepared_requests_put_load_on_our_service(ours: Any, encoding: Any):
    """One row each; nothing fails."""
    with connect(ours[0], "digits-student") as model:
        model.encoding = encoding
        payloads = [model.request(row[np.newaxis]) for row in INPUTS]
        closed = load.closed_loop(model.target, payloads, 0.0, 20)
        opened = load.open_loop(model.target, payloads, poisson(200.0, 0.2, np.random.default_rng(0)))
    assert (len(closed.latencies_s), closed.reasons, opened.reasons) == (20, {}, {})
    assert len(opened.latencies_s) > 10


def test_what_our_service_does_not_know_is_told_in_its_words(ours: Any):
    """The URL, what came, what was expected."""
    with pytest.raises(RemoteError, match=r"/v2/models/nope: 404 unknown model 'nope'; available: digits-student; exp"):
        connect(ours[0], "nope")
    with pytest.raises(RemoteError, match=r"/v2/models/digits-student/versions/7: 404 .*; expected the metadata of a"):
        connect(ours[0], "digits-student", 7)
    with connect(ours[0], "digits-student") as model:
        with pytest.raises(RemoteError, match=r"/infer: got rows of \[9\], expected input input of \[-1, 8, 8\]$"):
            model.run(np.zeros((2, 9), dtype=np.float32))
        with pytest.raises(RemoteError, match=r"/infer: got 17 rows, expected at most 16 in a request$"):
            model.run(np.zeros((17, 8, 8), dtype=np.float32))
        assert model.run(INPUTS.reshape(4, 64)).logits_BK.shape == (4, 10)


# Servers of other makes, as their documentation has them.


def tensor(name: str, shape: list[int], datatype: str = "FP32", **more: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, **more}


def metadata(*outputs: dict[str, Any], row: tuple[int, ...] = (-1, 64), datatype: str = "FP32") -> dict[str, Any]:
    return {"name": "m", "versions": ["3"], "inputs": [tensor("x", list(row), datatype)], "outputs": list(outputs)}


def infer(outputs: Callable[[int], list[dict[str, Any]]]) -> Callable[[Request], bytes]:
    """Answers in JSON, from the number of rows that were asked for."""
    return lambda request: answer(
        {"model_name": "m", "model_version": "3", "outputs": outputs(json.loads(request.body)["inputs"][0]["shape"][0])}
    )


def server(routes: dict[str, Any], extensions: list[str] | None = None) -> Any:
    """Says what its routes have: a JSON value, bytes, or what a function makes of a request; else 404."""
    about = {"name": "other", "version": "1", "extensions": extensions or []}

    def say(request: Request) -> bytes:
        path = request.first.split()[1]
        route = {"/v2": about, **routes}.get(path)
        if route is None:
            return answer({"error": f"no {path} here"}, 404)
        return route(request) if callable(route) else route if isinstance(route, bytes) else answer(route)

    return scripted(say)


P = known_probabilities(INPUTS)


def flat(name: str, values: np.ndarray) -> Callable[[int], list[dict[str, Any]]]:
    return lambda rows: [tensor(name, [rows, values.shape[1]], data=values[:rows].ravel().tolist())]


def ask(outputs: Callable[[int], list[dict[str, Any]]], *listed: dict[str, Any], **more: Any) -> Any:
    """What a server with these outputs is found to say of INPUTS."""
    routes = {MODEL: metadata(*listed, **more), f"{MODEL}/infer": infer(outputs)}
    with server(routes) as there, connect(there.url, "m") as model:
        return model.run(INPUTS)


def test_probabilities_alone_give_logits():
    """Their logarithm, clamped as that of every ensemble is."""
    certain = np.zeros((4, 10))
    certain[:, 3] = 1
    found = ask(flat("scores", P), tensor("scores", [-1, 10]))
    assert np.allclose(found.probabilities_BK, P, atol=1e-6)
    assert np.allclose(found.logits_BK, np.log(P), atol=1e-5)
    found = ask(flat("probabilities", certain), tensor("probabilities", [-1, 10]), tensor("label", [-1], "INT64"))
    assert np.allclose(found.logits_BK[0, :4], [np.log(1e-30)] * 3 + [0])


@pytest.mark.parametrize("name", ["logits", "output__0"])
def test_logits_alone_give_probabilities(name: str):
    """By softmax."""
    logits = np.log(P) + 3
    found = ask(flat(name, logits), tensor(name, [-1, -1]))
    assert np.allclose(found.probabilities_BK, P, atol=1e-6)
    assert np.allclose(log_softmax(found.logits_BK), np.log(P), atol=1e-5)


def test_triton_takes_binary_tensors_and_says_how_many_rows():
    """Its metadata has the batch in front, its configuration not."""

    def say(request: Request) -> bytes:
        length = int(request.head.partition("Inference-Header-Content-Length: ")[2].partition("\n")[0])
        asked = json.loads(request.body[:length])
        assert asked["inputs"] == [tensor("x", [4, 64], parameters={"binary_data_size": 1024})]
        assert asked["outputs"] == [{"name": "y", "parameters": {"binary_data": True}}]
        assert np.array_equal(np.frombuffer(request.body[length:], "<f4").reshape(4, 8, 8), INPUTS)
        outputs = [
            tensor("y", [4, 10], "FP16", parameters={"binary_data_size": 80}),
        ]
        head = json.dumps({"model_version": "3", "outputs": outputs}).encode()
        raw = head + np.log(P).astype("<f2").tobytes()
        return answer(raw, head=f"inference-header-content-length: {len(head)}\r\n")

    told = metadata(tensor("y", [-1, 10], "FP16"))
    routes = {f"{MODEL}/versions/3{end}": what for end, what in {"": told, "/config": {"max_batch_size": 8}}.items()}
    routes[f"{MODEL}/versions/3/infer"] = say
    with server(routes, ["binary_tensor_data"]) as there, connect(there.url, "m", "3") as model:
        assert (model.interface.max_rows, model.encoding, model.classes) == (8, "binary", 10)
        assert np.allclose(model.run(INPUTS).probabilities_BK, P, atol=1e-2)
        assert there.connections == 2  # one to connect, one to ask


@pytest.mark.parametrize(
    ("told", "sent"),
    [
        ((-1, 8, 8), [4, 8, 8]),
        ((-1, 64), [4, 64]),
        ((-1, -1), [4, 8, 8]),
        ((8, 8), [4, 8, 8]),
        ((64,), [4, 64]),
        ((-1, 1, 8, 8), [4, 1, 8, 8]),
        ((1, 8, 8), [4, 1, 8, 8]),
        ((4, 8, 8), [4, 8, 8]),
        ((-1, -1, 8), [4, 8, 8]),
    ],
)
def test_rows_take_the_shape_that_a_server_tells(told: tuple[int, ...], sent: list[int]):
    """Flat or not, with the batch in front or without it."""
    routes = {MODEL: metadata(tensor("y", [-1, 10]), row=told), f"{MODEL}/infer": infer(flat("y", P))}
    with server(routes) as there, connect(there.url, "m") as model:
        if told == (-1, -1):
            with pytest.raises(RemoteError, match=r"got rows of \[8, 8\], expected input x of \[-1, -1\]"):
                model.request(INPUTS)
            sent, inputs = [4, 64], INPUTS.reshape(4, 64)
        else:
            inputs = INPUTS
        model.run(inputs)
    assert json.loads(there.requests[-1].body)["inputs"][0]["shape"] == sent


def test_one_row_may_come_back_without_a_batch():
    """As [K]."""
    routes = {
        MODEL: metadata(tensor("y", [10])),
        f"{MODEL}/infer": infer(lambda rows: [tensor("y", [10], data=list(P[0]))]),
    }
    with server(routes) as there, connect(there.url, "m") as model:
        assert np.allclose(model.run(INPUTS[:1]).probabilities_BK, P[:1], atol=1e-6)


def test_integers_are_sent_where_they_are_taken():
    """And only where the inputs are such numbers."""
    routes = {MODEL: metadata(tensor("y", [-1, 10]), datatype="UINT8"), f"{MODEL}/infer": infer(flat("y", P))}
    with server(routes) as there, connect(there.url, "m") as model:
        model.run(INPUTS)
        with pytest.raises(RemoteError, match="the model takes UINT8, but the inputs are not such numbers"):
            model.run(INPUTS + 0.5)
    assert json.loads(there.requests[-1].body)["inputs"][0]["data"] == INPUTS.ravel().astype(int).tolist()


def test_a_key_and_the_path_of_the_url_go_with_every_request():
    """The key shows nowhere."""
    base = "/deep/er%20"
    with scripted(
        lambda request: answer(metadata(tensor("y", [-1, 10])) if request.first.endswith("%2Fm") else {}, 200)
    ) as there:
        model = connect(f"{there.url}/deep/er%20/", "a/m", headers=[("Authorization", "Bearer secret")])
    paths = ["/v2", "/v2/models/a%2Fm", "/v2/models/a%2Fm/config"]
    assert [request.first for request in there.requests] == [f"GET {base}{path}" for path in paths]
    assert all("Authorization: Bearer secret" in request.head for request in there.requests)
    host = there.url.removeprefix("http://")
    start = f"POST {base}/v2/models/a%2Fm/infer HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer secret\r\n"
    assert model.request(INPUTS).startswith(start.encode())
    assert repr(model) == f"RemoteModel(a/m at {there.url}/deep/er%20/)"


def test_a_connection_that_was_closed_meanwhile_is_opened_again():
    """Once, where not a byte of an answer had come."""
    told = metadata(tensor("y", [-1, 10]))
    say = infer(flat("y", P))
    with (
        scripted(lambda request: say(request) if "infer" in request.first else answer(told), close_after=True) as there,
        connect(there.url, "m") as model,
    ):
        model.run(INPUTS)
        model.run(INPUTS)
    assert len(there.requests) == 5


# What goes wrong.
