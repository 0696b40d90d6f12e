"""Clients whose bodies and names mean no good: each is refused, quickly, and nothing of the machine leaks."""

from __future__ import annotations

import base64
import gzip
import io
import json
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.repositories import write_pair
from tests.served import ROOT, free_port, running
from tests.service.hostile.wire import GOOD, INPUTS, SECRETS, V2, Service, head, infer, read, send, wire

BOMB = gzip.compress(b" " * 50_000_000 + GOOD)


@pytest.mark.parametrize("path", ["/predict", V2])
@pytest.mark.parametrize(
    ("coding", "body", "status"),
    [
        ("gzip", BOMB, 413),
        ("deflate", zlib.compress(b" " * 50_000_000), 413),
        ("gzip", BOMB[:-100], 413),
        ("gzip", GOOD, 400),
        ("br", GOOD, 415),
        ("gzip, gzip", gzip.compress(gzip.compress(GOOD)), 415),
        ("gzip", b"", 400),
        ("gzip", gzip.compress(GOOD)[:-9], 400),
        ("../../etc/passwd", GOOD, 415),
    ],
)
def test_packed_bodies(path: str, coding: str, body: bytes, status: int, service: Service):
    """A bomb is never unpacked beyond the limit."""
    answer = service[0].post(path, content=body, headers={"Content-Encoding": coding})
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}


JSON_LENGTHS = ["-1", "+5", "", "1.0", "1e3", "0x10", "9" * 20, str(10**6), "\u0663", "5, 5", "nan", "7\t7", "''"]


@pytest.mark.parametrize("length", JSON_LENGTHS)
def test_every_illegal_json_length(length: str, service: Service):
    """Of a binary request's head."""
    body = infer()
    with wire(service) as connection:
        lines = f"Content-Length: {len(body)}", f"Inference-Header-Content-Length: {length}"
        send(connection, head(V2, *lines) + body)
        status, text = read(connection)
    assert status == 400
    assert '{"error":"Inference-Header-Content-Length: got' in text


@pytest.mark.parametrize("size", [0, 255, 257, -256, 2**31, 2**63, 2**64, 10**30, 256.0, "256", True, None, [256], {}])
def test_a_binary_data_size_that_lies(size: object, service: Service):
    """256 bytes follow."""
    raw = infer(data=None, parameters={"binary_data_size": size})
    headers = {"Inference-Header-Content-Length": str(len(raw))}
    answer = service[0].post(V2, content=raw + bytes(256), headers=headers)
    assert answer.status_code == 400
    assert not SECRETS.search(answer.text)


SHAPES = [[], [0, 64], [-1, 64], [1, -64], [-1, -64], [2**32, 2**32], [2**63, 2], [2**64, 1], [1, 64.0], ["1", 64]]


SHAPES += [[True, 64], [1, None], [1] * 1000, [[1], [64]], [10**400, 1], [1, 64, 0], [2**31, 0, 2**33]]


@pytest.mark.parametrize("shape", SHAPES, ids=range(len(SHAPES)))
def test_a_shape_that_cannot_be(shape: list, service: Service):
    """Nor may its product overflow, or be reserved in memory."""
    for data in ([0] * 64, []):
        assert service[0].post(V2, content=infer(shape=shape, data=data)).status_code == 400
    raw = infer(shape=shape, data=None, parameters={"binary_data_size": 256})
    headers = {"Inference-Header-Content-Length": str(len(raw))}
    assert service[0].post(V2, content=raw + bytes(256), headers=headers).status_code == 400


DEPTH = 250_000


DEEP: dict[str, Callable[[str, str], str]] = {
    "body": lambda before, after: before + after,
    "inputs": lambda before, after: f'{{"inputs": {before}{after}}}',
    "data": lambda before, after: f'{{"inputs": [{{"name": "input", "data": {before}{after}}}]}}',
    "literal": lambda before, after: f'{{"inputs": [NaN, {before}{after}]}}',
    "options": lambda before, after: f'{{"inputs": [[1]], "model": {before}{after}}}',
}


@pytest.mark.parametrize("path", ["/predict", V2, "/compare"])
@pytest.mark.parametrize("place", DEEP)
@pytest.mark.parametrize("signs", ["[]", '{"a":}'])
def test_json_that_is_very_deep(path: str, place: str, signs: str, service: Service):
    """It is refused, and quickly."""
    body = DEEP[place](signs[:-1] * DEPTH, ("1" if signs != "[]" else "") + signs[-1] * DEPTH)
    started = time.monotonic()
    answer = service[0].post(path, content=body.encode())
    assert answer.status_code in (400, 422)
    assert time.monotonic() - started < 5
    assert not SECRETS.search(answer.text)


@pytest.mark.parametrize("path", ["/predict", V2])
def test_keys_that_come_twice(path: str, service: Service):
    """The last one counts, as JSON libraries have it, or the request is refused; never both."""
    one, two = ("[[0]]", json.dumps(INPUTS.tolist())) if path == "/predict" else ("[]", infer()[11:-1].decode())
    assert service[0].post(path, content=f'{{"inputs": {one}, "inputs": {two}}}'.encode()).status_code == 200
    assert service[0].post(path, content=f'{{"inputs": {two}, "inputs": {one}}}'.encode()).status_code in (400, 422)


NAMES = ["../digits-student", "..%2fdigits-student", "%2e%2e%2fdigits-student", "..", ".", "a%00b", "a%5c..%5cb", "%ff"]


NAMES += [
    "digits-student%2f1",
    "digits-student/../digits-student",
    "%252e%252e",
    "x" * 10_000,
    "a b",
    "%0d%0aX: y",
    "é",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("method", "route"), [("POST", "/v2/models/{}/infer"), ("GET", "/v2/models/{}"), ("GET", "/models/{}")]
)
def test_names_that_would_leave_the_repository(name: str, method: str, route: str, service: Service):
    """They are names of no model; a path is never made of one."""
    target = route.format(name).encode()
    with wire(service) as connection:
        body = infer() if method == "POST" else b""
        send(
            connection,
            method.encode()
            + b" "
            + target
            + f" HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body,
        )
        status, text = read(connection)
    assert status in (400, 404)
    assert "root:" not in text


def test_numbers_of_any_size_are_refused_or_read(service: Service):
    """A number of a million digits takes no time to speak of."""
    for number in ("1" * 1_000_000, "1e" + "9" * 1000, "0." + "1" * 100_000, "-" + "9" * 400):
        started = time.monotonic()
        rows = json.dumps([INPUTS.ravel().astype(int).tolist()]).replace("[[", f"[[{number}, ", 1)
        for path, body in (("/predict", f'{{"inputs": {rows}}}'), (V2, infer().decode().replace("[0,", f"[{number},"))):
            assert service[0].post(path, content=body.encode()).status_code in (200, 400, 422)
        assert time.monotonic() - started < 5


HALF = "\\ud800"
"""Of a character, as JSON can write it and UTF-8 cannot."""


@pytest.mark.parametrize("at", ["x", "1"])
@pytest.mark.parametrize(
    "changes",
    [
        {"name": HALF},
        {"datatype": HALF},
        {"datatype": "BYTES", "data": [HALF], "shape": [1]},
        {"parameters": {"classification": HALF}},
        {"data": [int("9" * 400)] + [0] * 63},
    ],
)
def test_what_only_the_reader_of_literals_takes_is_no_mistake_of_ours(at: str, changes: dict, service: Service):
    """NaN makes Python's reader of JSON do it, which takes more than the other one."""
    body = infer(**changes).replace(b"\\\\u", b"\\u")[:-1]
    for more in (b"", b', "id": "\\ud800"', b', "outputs": [{"name": "\\ud800"}]'):
        whole = body + more + b', "parameters": {"x": NaN}}'
        for content in (whole, iter([whole])):
            answer = service[0].post(V2, content=content)
            assert answer.status_code in ((200, 400) if b"9999" in body else (400,))
            assert b"Traceback" not in answer.content


def test_an_answer_is_not_many_times_its_request(service: Service):
    """Each output comes once."""
    outputs = b', "outputs": [' + b", ".join([b'{"name": "logits"}'] * 5000) + b"]}"
    answer = service[0].post(V2, content=infer()[:-1] + outputs)
    assert answer.status_code == 400
    assert answer.json() == {"error": "outputs: got 5000 of them, expected each of probabilities, logits at most once"}


def test_a_shape_with_a_huge_product_takes_no_time(service: Service):
    """It is never computed."""
    started = time.monotonic()
    assert service[0].post(V2, content=infer(shape=[10**18] * 20_000)).status_code == 400
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("chunked", [False, True])
def test_the_pixels_of_all_pictures_count_together(chunked: bool, service: Service):
    """And nobody waits while they are read."""
    picture = io.BytesIO()
    Image.new("1", (4000, 4000)).save(picture, "PNG")
    data = [base64.b64encode(picture.getvalue()).decode()] * 5
    body = infer(shape=[5], datatype="BYTES", data=data)
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(service[0].post, V2, content=iter([body]) if chunked else body)
        waits: list[float] = []
        while not sent.done():
            started = time.monotonic()
            httpx.get(f"{service[0].base_url}/health/live")
            waits.append(time.monotonic() - started)
    assert sent.result().status_code == 413
    assert max(waits, default=0.0) < 1


@pytest.mark.parametrize("value", ["x" * 100_000, [[[]]] * 1000, 10**30])
def test_an_error_does_not_repeat_at_length_what_was_sent(value: object, service: Service):
    """Names, types, sizes."""
    bodies = [(V2, infer(name=value)), (V2, infer(datatype=value)), (V2, infer(parameters={"binary_data_size": value}))]
    bodies += [("/predict", json.dumps({"inputs": [[0] * 64], "model": value}).encode())]
    for path, body in bodies:
        answer = service[0].post(path, content=body)
        assert answer.status_code in (400, 404, 422)
        assert len(answer.text) < 500


def test_the_log_tells_nothing_of_what_was_sent(tmp_path: Path):
    """Neither rows nor keys, and no traceback for what a client got wrong."""
    write_pair(tmp_path)
    with running(tmp_path, free_port()) as (client, process):
        for body in (b"{", b'{"inputs": "secret-rows"}', b"\0" * 100, BOMB[:100]):
            client.post("/predict", content=body, headers={"Authorization": "Bearer sr-secret-key"})
            client.post(V2, content=body)
        process.terminate()
        text = process.communicate(timeout=20)[1]
    assert "secret" not in text
    assert "Traceback" not in text
    assert str(ROOT) not in text
