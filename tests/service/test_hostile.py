"""Clients that mean no good, over real sockets: each gets an answer or the end of its connection, nobody else notices.

After each of them the service answers a good request, its memory is bounded, and nothing of the machine leaked.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
import socket
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.repositories import examples, known_probabilities, write_pair
from tests.served import ROOT, free_port, running

INPUTS, _ = examples(1)
GOOD = json.dumps({"inputs": INPUTS.tolist()}).encode()
V2 = "/v2/models/digits-student/infer"
MOST_BYTES = 4_000_000
GROWTH_MB = 60
"""A body, what it unpacks to, and the allocator's slack; a leak of a body a request would be a multiple."""
SECRETS = re.compile(r"Traceback|File \"|site-packages|/tmp/|/home|/root|pytest-|\.py\b")

Service = tuple[httpx.Client, subprocess.Popen[str]]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    models = tmp_path_factory.mktemp("models")
    write_pair(models)
    options = ["--max-body-bytes", str(MOST_BYTES), "--timeout-s", "2", "--max-connections", "50", "--max-batch", "64"]
    with running(models, free_port(), *options) as started:
        started[0].post("/predict", content=GOOD)
        yield started


def megabytes(process: subprocess.Popen[str]) -> float:
    return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * 4096 / 2**20


@pytest.fixture(autouse=True)
def goes_on(service: Service) -> Iterator[None]:
    """Whatever a test did, the next good request is answered as ever, and memory has not grown."""
    client, process = service
    before = megabytes(process)
    yield
    answer = client.post("/predict", content=GOOD)
    assert answer.status_code == 200
    np.testing.assert_allclose(answer.json()["probabilities"], known_probabilities(INPUTS, seed=1), atol=1e-6)
    assert megabytes(process) < before + GROWTH_MB


@contextmanager
def wire(service: Service) -> Iterator[socket.socket]:
    url = service[0].base_url
    with socket.create_connection((url.host, url.port or 80), timeout=20) as connection:
        yield connection


def read(connection: socket.socket) -> tuple[int, str]:
    """The status and the rest of what comes until the service closes or has answered; 0 where nothing comes."""
    raw = b""
    try:
        while part := connection.recv(65536):
            raw += part
            head, _, body = raw.partition(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            if length and len(body) >= int(length[1]):
                break
    except ConnectionError:
        pass
    status = int(raw.split(b" ", 2)[1]) if raw.startswith(b"HTTP/1.1 ") else 0
    assert not SECRETS.search(raw.decode("latin-1"))
    return status, raw.decode("latin-1")


def send(connection: socket.socket, raw: bytes) -> None:
    """All of it, or as much as the service takes."""
    with suppress(ConnectionError):
        connection.sendall(raw)


def head(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: service", *headers, "", ""]).encode()


def chunks(count: int) -> bytes:
    spaces = b"1\r\n \r\n" * (count - len(GOOD))
    return spaces + b"".join(b"1\r\n%c\r\n" % byte for byte in GOOD) + b"0\r\n\r\n"


@pytest.mark.parametrize("count", [65_537, 1_000_000])
def test_a_body_in_very_many_chunks_is_read(count: int, service: Service):
    """One byte each."""
    with wire(service) as connection:
        send(connection, head("/predict", "Transfer-Encoding: chunked") + chunks(count))
        connection.settimeout(60)
        assert read(connection)[0] == 200


def test_a_byte_a_second_ends_at_the_time_limit(service: Service):
    """Meanwhile others are answered."""
    with wire(service) as slow:
        send(slow, head("/predict", f"Content-Length: {len(GOOD)}"))
        started = time.monotonic()
        slow.settimeout(1)
        while time.monotonic() - started < 10:
            send(slow, b" ")
            assert service[0].post("/predict", content=GOOD).status_code == 200
            try:
                status, text = read(slow)
            except TimeoutError:
                continue
            break
    assert (status, time.monotonic() - started < 8) == (408, True)
    assert "the request was not whole within 2 s" in text


@pytest.mark.parametrize("sent", [b"", b"POST", b"POST /predict HTTP/1.1\r\nHost: service\r\nX-Slow: "])
def test_a_connection_that_says_nothing_or_never_ends_its_head_is_closed(sent: bytes, service: Service):
    """At the time limit."""
    with wire(service) as connection:
        send(connection, sent)
        assert read(connection)[0] == 408


def test_more_connections_than_there_may_be_are_turned_away(service: Service):
    """With a word; those that were there before are not."""
    url = service[0].base_url
    connections = [socket.create_connection((url.host, url.port or 80), timeout=20) for _ in range(60)]
    try:
        connections[0].sendall(head("/predict", f"Content-Length: {len(GOOD)}") + GOOD)
        assert read(connections[0])[0] == 200
        status, text = read(connections[-1])
        assert status == 503
        assert "50 connections are open already, the most that there may be: try again" in text
    finally:
        for connection in connections:
            connection.close()


@pytest.mark.parametrize("at_once", [True, False])
def test_a_head_without_an_end_is_refused(at_once: bool, service: Service):
    """In one header or in many, sent at once or not."""
    for lines in (b"X-Long: " + b"a" * 300_000, b"X: y\r\n" * 50_000):
        raw = b"POST /predict HTTP/1.1\r\nHost: service\r\n" + lines + b"\r\nContent-Length: 0\r\n\r\n"
        with wire(service) as connection:
            for start in range(0, len(raw), len(raw) if at_once else 10_000):
                send(connection, raw[start : start + (len(raw) if at_once else 10_000)])
            assert read(connection)[0] in (431, 0)  # 0: it was closed while more was being sent


@pytest.mark.parametrize(
    "raw",
    [
        b"\0" * 1000,
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /predict HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"POST /predict HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nContent-Length: 0x10\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"POST /predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
        b"POST /predict HTTP/1.1\r\nX\0Y: a\r\n\r\n",
        b"POST http://[ HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused(raw: bytes, service: Service):
    """And is no way to smuggle a second request in."""
    with wire(service) as connection:
        send(connection, raw + GOOD)
        assert read(connection)[0] in (400, 0)


@pytest.mark.parametrize("more", [-20, 20])
def test_a_content_length_that_lies(more: int, service: Service):
    """Too short: the rest is no request. Too long: the time limit ends it."""
    with wire(service) as connection:
        send(connection, head("/predict", f"Content-Length: {len(GOOD) + more}") + GOOD)
        assert read(connection)[0] == (400 if more < 0 else 408)


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


def infer(**changes: object) -> bytes:
    given = {"name": "input", "shape": [1, 64], "datatype": "FP32", "data": [0] * 64, **changes}
    return json.dumps({"inputs": [{key: value for key, value in given.items() if value is not None}]}).encode()


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


def test_disconnects_at_every_point_leave_nothing_behind(service: Service):
    """No file descriptor either."""
    files = Path(f"/proc/{service[1].pid}/fd")
    before = len(list(files.iterdir()))
    raw = head("/predict", f"Content-Length: {len(GOOD)}") + GOOD
    chunked = head("/predict", "Transfer-Encoding: chunked") + b"%x\r\n" % len(GOOD) + GOOD + b"\r\n0\r\n\r\n"
    for request in (raw, chunked):
        for end in range(0, len(request), 41):
            with wire(service) as connection:
                send(connection, request[:end])
    time.sleep(0.5)
    assert len(list(files.iterdir())) <= before + 5


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


@pytest.mark.parametrize("trailer", [b"X: y\r\n", b"a"])
def test_trailers_without_an_end_are_refused(trailer: bytes, service: Service):
    """In many of them or in one; nothing of them becomes a header."""
    with wire(service) as connection:
        send(connection, head("/predict", "Transfer-Encoding: chunked") + b"%x\r\n" % len(GOOD) + GOOD + b"\r\n0\r\n")
        for _ in range(100):
            send(connection, trailer * (100_000 // len(trailer)))
        assert read(connection)[0] in (431, 0)


def test_a_trailer_is_no_header(service: Service):
    """It would change how the body that came before it is read."""
    with wire(service) as connection:
        body = b"%x\r\n" % len(GOOD) + GOOD + b"\r\n0\r\nContent-Encoding: br\r\nX-Request-ID: evil\r\n\r\n"
        send(connection, head("/predict", "Transfer-Encoding: chunked") + body)
        status, text = read(connection)
    assert (status, "evil" in text) == (200, False)


def test_connections_leave_nothing_behind(service: Service):
    """Two hundred with a large body each, whole and broken off: as if there had been one."""
    body = GOOD + b" " * 400_000
    for index in range(200):
        with wire(service) as connection:
            send(connection, head("/predict", f"Content-Length: {len(body)}") + body[: None if index % 2 else -10])
            if index % 2:
                assert read(connection)[0] == 200


def test_an_empty_line_does_not_keep_a_connection_for_ever(service: Service):
    """It ends the keep-alive timer, and begins the one of a request."""
    with wire(service) as connection:
        send(connection, head("/predict", f"Content-Length: {len(GOOD)}") + GOOD)
        assert read(connection)[0] == 200
        send(connection, b"\r\n")
        assert read(connection)[0] == 408


def test_a_client_that_never_reads_is_let_go(service: Service):
    """At the time limit, whatever it sent."""
    request = head(V2, f"Content-Length: {len(infer())}") + infer()
    with wire(service) as connection:
        connection.settimeout(0.5)
        with suppress(TimeoutError):
            while True:
                send(connection, request * 100)
        connection.settimeout(20)
        started = time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() - started < 15:
                connection.sendall(request)
                time.sleep(0.1)
        assert time.monotonic() - started < 10


def test_what_is_wrong_behind_a_good_request_does_not_take_its_answer(service: Service):
    """Neither garbage nor a half request that is never ended; the first one here takes longer than the time limit."""
    slow = b'{"blocks": 3}'
    for rest in (b"\0\0\0\r\n\r\n", b"POST /predict HTTP/1.1\r\nHost: x\r\n"):
        with wire(service) as connection:
            send(connection, head("/compare", f"Content-Length: {len(slow)}") + slow + rest)
            status, text = read(connection)
            assert (status, '"pairs"' in text) == (200, True)


@pytest.mark.parametrize("name", ["Upgrade", "UPGRADE", "upgrade"])
def test_an_offer_of_another_protocol_is_passed_over(name: str, service: Service):
    """As curl and Java make with a first request; its body is read, and so is the next request."""
    lines = (
        f"Content-Length: {len(GOOD)}",
        f"{name}: h2c",
        "Connection: Upgrade, HTTP2-Settings",
        "HTTP2-Settings: AAMA",
    )
    with wire(service) as connection:
        send(connection, head("/predict", *lines) + GOOD)
        assert read(connection)[0] == 200
        send(connection, head("/predict", f"Content-Length: {len(GOOD)}") + GOOD)
        assert read(connection)[0] == 200


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
