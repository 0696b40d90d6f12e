"""service/direct.py: the hot routes in front of FastAPI answer just as FastAPI does, over real sockets.

A body that is sent in chunks goes to FastAPI, the same body with its length does not: so each is the other's oracle.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from tests.repositories import known_probabilities, write_pair
from tests.served import free_port, serving
from tests.service.wire import FLAT, INPUTS, V2, Wire, binary, infer, labels, predict, request


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Of a service over an ensemble and its student."""
    models = tmp_path_factory.mktemp("models")
    write_pair(models)
    with serving(models, free_port(), "--max-batch", "8", "--max-body-bytes", "100000") as client:
        yield client


REQUESTS = {
    "rows": ("/predict", predict(), {}),
    "nested": ("/predict", json.dumps({"inputs": INPUTS.tolist()}).encode(), {}),
    "options": ("/predict", predict(model="digits-ensemble", version=1, temperature=3.5, top_k=10), {}),
    "as-curl-says": ("/predict", predict(), {"Content-Type": "application/x-www-form-urlencoded"}),
    "no-json": ("/predict", b"{", {}),
    "empty": ("/predict", b"", {}),
    "nan": ("/predict", b'{"inputs": [[NaN]]}', {}),
    "no-rows": ("/predict", b"{}", {}),
    "unknown-field": ("/predict", predict(topk=3), {}),
    "top-k": ("/predict", predict(top_k=11), {}),
    "model": ("/predict", predict(model="other"), {}),
    "version": ("/predict", predict(version=9), {}),
    "ragged": ("/predict", json.dumps({"inputs": [FLAT[0], FLAT[1][1:]]}).encode(), {}),
    "too-many": ("/predict", json.dumps({"inputs": FLAT * 3}).encode(), {}),
    "query": ("/predict?a=1", predict(), {}),
    "v2": (V2, infer(), {}),
    "v2-version": ("/v2/models/digits-student/versions/1/infer", infer(), {}),
    "v2-wrong-version": ("/v2/models/digits-student/versions/x/infer", infer(), {}),
    "v2-no-version": ("/v2/models/digits-student/versions//infer", infer(), {}),
    "v2-model": ("/v2/models/other/infer", infer(), {}),
    "v2-escaped": ("/v2/models/digits%2dstudent/infer", infer(), {}),
    "v2-shape": (V2, infer(shape=[3, 63]), {}),
    "v2-literals": (V2, infer().replace(b"[[", b"[[NaN, ", 1).replace(b", 64]", b", 65]"), {}),
    "v2-binary": (V2, *binary()),
    "v2-raw": (V2, INPUTS.tobytes(), {"Inference-Header-Content-Length": "0"}),
    "v2-length": (V2, infer(), {"Inference-Header-Content-Length": "-1"}),
    "v2-packed-answer": (V2, infer(shape=[3, 64]), {"Accept-Encoding": "gzip"}),
}


def shown(answer: httpx.Response) -> tuple[Any, ...]:
    """What must not depend on the way that a request took."""
    body: Any = re.sub(rb'"timings_ms":{[^}]*}', b"", answer.content)
    names = ("content-type", "retry-after", "content-encoding", "inference-header-content-length", "connection")
    return answer.status_code, body, *(answer.headers.get(name) for name in names)


@pytest.mark.parametrize("name", REQUESTS)
def test_both_ways_give_the_same_answer(name: str, client: httpx.Client):
    """Its status, its bytes and its headers."""
    path, body, headers = REQUESTS[name]
    direct = client.post(path, content=body, headers=headers)
    chunked = client.post(path, content=iter([body[:5], body[5:]]), headers=headers)
    assert chunked.request.headers["transfer-encoding"] == "chunked"
    assert shown(direct) == shown(chunked)
    assert "date" in direct.headers


def test_the_answer_is_what_numpy_computes(client: httpx.Client):
    """So both ways are right, not only alike."""
    answer = client.post("/predict", content=predict(temperature=2.0)).json()
    np.testing.assert_allclose(answer["probabilities"], known_probabilities(INPUTS, seed=1, temperature=2.0), atol=1e-6)


def test_both_ways_are_counted(client: httpx.Client):
    """By the template of their route."""
    before, after = (_counted(client, ask) for ask in (False, True))
    for route in ("/predict", "/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer"):
        assert after[route] == before.get(route, 0) + 2


def _counted(client: httpx.Client, ask: bool) -> dict[str, float]:
    if ask:
        paths = ["/predict", V2, "/v2/models/digits-student/versions/1/infer"]
        for path, body in zip(paths, [predict(), infer(), infer()], strict=True):
            client.post(path, content=body)
            client.post(path, content=iter([body]))
    pattern = r'stillroom_requests_total{method="POST",route="(.*)",status="200"} (\d+)'
    return {route: float(count) for route, count in re.findall(pattern, client.get("/metrics").text)}


@pytest.fixture
def wire(client: httpx.Client) -> Iterator[Wire]:
    with Wire(client) as wire:
        yield wire


def test_requests_that_are_sent_at_once_are_answered_in_their_order(wire: Wire):
    """Those that follow one that is not answered yet go to FastAPI, and wait."""
    bodies = [json.dumps({"inputs": [row]}).encode() for row in FLAT]
    health = b"GET /health/live HTTP/1.1\r\nHost: service\r\n\r\n"
    expected = known_probabilities(INPUTS, seed=1).argmax(axis=1).astype(str).tolist()
    for _ in range(3):
        wire.socket.sendall(b"".join([request(bodies[0]), request(bodies[1]), health, request(bodies[2]), health]))
        answers = [wire.answer()[2] for _ in range(5)]
        assert [labels(answers[index])[0] for index in (0, 1, 3)] == expected
        assert answers[2] == answers[4] == b'{"status":"live"}'


def test_a_body_may_come_in_pieces(wire: Wire):
    """Byte by byte in the head, too."""
    for byte in request(predict())[:200]:
        wire.socket.sendall(bytes([byte]))
    wire.socket.sendall(request(predict())[200:-10])
    time.sleep(0.05)
    wire.socket.sendall(request(predict())[-10:])
    status, _, body = wire.answer()
    assert (status, len(labels(body))) == (200, 3)


def test_a_connection_stays_open_after_an_error_and_ends_where_asked(wire: Wire):
    """As HTTP/1.1 has it."""
    wire.socket.sendall(request(b"{"))
    status, headers, _ = wire.answer()
    assert (status, headers.get("connection")) == (400, None)
    wire.socket.sendall(request(predict(), "/predict", "Connection: close"))
    status, headers, _ = wire.answer()
    assert (status, headers["connection"]) == (200, "close")
    assert wire.stream.read() == b""


@pytest.mark.parametrize("headers", [[], ["Connection: keep-alive"]])
def test_http_1_0_is_answered_too(headers: list[str], wire: Wire):
    """By FastAPI, which closes."""
    wire.socket.sendall(request(predict(), "/predict", *headers, version="1.0"))
    status, found, body = wire.answer()
    assert (status, len(labels(body)), found["connection"]) == (200, 3, "close")


def test_who_waits_for_100_continue_gets_it(wire: Wire):
    """As curl does before a large body."""
    raw = request(predict(), "/predict", "Expect: 100-continue")
    head, _, body = raw.partition(b"\r\n\r\n")
    wire.socket.sendall(head + b"\r\n\r\n")
    assert wire.stream.readline() == b"HTTP/1.1 100 Continue\r\n"
    wire.stream.readline()
    wire.socket.sendall(body)
    assert wire.answer()[0] == 200


def test_a_body_that_is_announced_too_large_is_refused(wire: Wire):
    """Before it is sent."""
    wire.socket.sendall(b"POST /predict HTTP/1.1\r\nHost: service\r\nContent-Length: 100001\r\n\r\n")
    status, _, body = wire.answer()
    assert (status, json.loads(body)) == (413, {"error": "the body has 100001 bytes, expected at most 100000"})


def test_clients_that_go_away_in_the_middle_disturb_nobody(client: httpx.Client):
    """In the head, in the body, and before the answer."""
    raw = request(predict())
    for length in [1, 20, 100, len(raw) - 1, len(raw)] * 5:
        with Wire(client) as wire:
            wire.socket.sendall(raw[:length])
    assert client.post("/predict", content=predict()).status_code == 200


def test_a_client_that_does_not_read_is_not_read_either(client: httpx.Client):
    """Its answers are not kept in memory without a limit; it gets all of them when it reads."""
    count, raw = 50_000, request(infer(), V2)
    with Wire(client) as wire:
        wire.socket.settimeout(0.5)
        sent = 0
        try:
            while sent < count:
                wire.socket.sendall(raw)
                sent += 1
        except TimeoutError:
            pass
        assert sent < count
