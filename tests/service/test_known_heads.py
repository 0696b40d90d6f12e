"""A head that came before on a connection is not parsed again: whatever comes after it is read as if it were.

Over real sockets. Each request is sent alone on a connection of its own first, where no head is known: that answer is
the oracle.
"""

from __future__ import annotations

import io
import json
import random
import signal
import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.repositories import write_model, write_pair
from tests.served import free_port, running, serving
from tests.service.wire import FLAT, V2, Wire, binary, infer, labels, predict, request

KEY = "k1:predict:" + "0" * 64
PACKED, LENGTH = binary()
KINDS = {
    "rows": request(predict()),
    "one-row": request(json.dumps({"inputs": FLAT[:1]}).encode()),
    "same-length": request(predict().replace(b"[[", b"{[", 1)),
    "json": request(infer(), V2),
    "binary": request(PACKED, V2, *(f"{name}: {value}" for name, value in LENGTH.items())),
    "other-model": request(infer(), V2.replace("student", "ensemble")),
    "no-model": request(infer(), V2.replace("student", "nobody")),
    "head-in-the-body": request(request(predict())),
    "empty": request(b""),
    "live": b"GET /health/live HTTP/1.1\r\nHost: service\r\n\r\n",
    "after-empty-lines": b"\r\n\r\n" + request(predict()),
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Of a service over an ensemble and its student."""
    models = tmp_path_factory.mktemp("models")
    write_pair(models)
    with serving(models, free_port(), "--max-body-bytes", "100000") as client:
        yield client


@pytest.fixture(scope="module")
def alone(client: httpx.Client) -> dict[str, Any]:
    """What each request is answered as the first one of a connection."""
    found = {}
    for name, raw in KINDS.items():
        with Wire(client) as wire:
            wire.socket.sendall(raw)
            found[name] = shown(wire)
    return found


def shown(wire: Wire) -> tuple[Any, ...]:
    """The next answer, less what is another each time."""
    status, headers, body = wire.answer()
    del headers["x-request-id"], headers["date"]
    if b'"timings_ms"' in body:
        said = json.loads(body)
        del said["timings_ms"], headers["content-length"]
        return status, headers, said
    return status, headers, body


def send(wire: Wire, pieces: Sequence[bytes]) -> None:
    """Each by itself, so that the service most likely gets it by itself."""
    for piece in pieces:
        wire.socket.sendall(piece)
        time.sleep(0.002)


@pytest.mark.parametrize("first", KINDS)
@pytest.mark.parametrize("second", KINDS)
def test_a_request_after_another_is_answered_as_alone(
    first: str, second: str, client: httpx.Client, alone: dict[str, Any]
):
    """The same one again, and again after another."""
    with Wire(client) as wire:
        for name in (first, first, second, first, second, second):
            wire.socket.sendall(KINDS[name])
            assert shown(wire) == alone[name]


@pytest.mark.parametrize("seed", range(8))
def test_however_they_are_cut(seed: int, client: httpx.Client, alone: dict[str, Any]):
    """Requests one behind the other in pieces that end anywhere, with a known head before and after."""
    drawn = random.Random(seed)
    names = [name for _ in range(12) for name in [drawn.choice(list(KINDS))] * drawn.randint(1, 3)]
    stream = b"".join(KINDS[name] for name in names)
    ends = [len(b"".join(KINDS[name] for name in names[: index + 1])) for index in range(len(names))]
    near = [end + drawn.randint(-2, 2) for end in drawn.sample(ends, len(ends) // 2)]
    cuts = sorted({0, len(stream), *drawn.sample(ends, len(ends) // 2), *near} & set(range(len(stream) + 1)))
    with Wire(client) as wire:
        send(wire, [stream[start:end] for start, end in pairwise(cuts)])
        assert [shown(wire) for _ in names] == [alone[name] for name in names]


def test_an_incomplete_request_after_a_known_head_is_waited_for(client: httpx.Client, alone: dict[str, Any]):
    """Its head alone, and all but its last byte; what follows does not get into it."""
    raw = KINDS["rows"]
    head = raw.index(b"\r\n\r\n") + 4
    with Wire(client) as wire:
        for cut in (head, head - 1, len(raw) - 1, 1):
            send(wire, [raw, raw[:cut], raw[cut:] + raw])
            assert [shown(wire) for _ in range(3)] == [alone["rows"]] * 3


def test_a_known_request_may_be_the_body_of_another(client: httpx.Client, alone: dict[str, Any]):
    """And come in a piece of its own."""
    inner, outer = KINDS["rows"], KINDS["head-in-the-body"]
    with Wire(client) as wire:
        send(wire, [inner, outer[: -len(inner)], inner, inner])
        assert [shown(wire) for _ in range(3)] == [alone[name] for name in ("rows", "head-in-the-body", "rows")]


def test_a_known_request_may_be_a_part_of_the_head_of_another(client: httpx.Client, alone: dict[str, Any]):
    """And come in a piece of its own."""
    with Wire(client) as wire:
        for name, pieces in (("rows", []), ("live", [b"GET /health/live HTTP/1.1\r\nX-Part: "]), ("rows", [])):
            send(wire, [*pieces, KINDS["rows"]])
            assert shown(wire) == alone[name]


def test_a_known_head_does_not_overtake(client: httpx.Client):
    """A large picture is read in a thread; what is asked meanwhile waits, though it could be refused at once."""
    drawn = io.BytesIO()
    Image.new("L", (4000, 4000)).save(drawn, "PNG")
    slow = infer(shape=[1], datatype="BYTES", data=[b64encode(drawn.getvalue()).decode()])
    fast = slow.replace(b"{", b"[", 1)
    with Wire(client) as wire:
        for bodies, expected in (([slow], [200]), ([slow, fast, slow], [200, 400, 200])):
            send(wire, [request(body, V2) for body in bodies])
            assert [wire.answer()[0] for _ in bodies] == expected


def test_each_request_has_its_own_id_unless_it_brings_one(client: httpx.Client):
    """As the client's is part of the head, it is the same again."""
    with Wire(client) as wire:
        for raw, count in ((request(predict()), 3), (request(predict(), "/predict", "X-Request-ID: mine"), 1)):
            ids = set()
            for _ in range(3):
                wire.socket.sendall(raw)
                ids.add(wire.answer()[1]["x-request-id"])
            assert len(ids) == count


def test_it_is_asked_of_the_version_that_is_served_now(tmp_path: Path):
    """A head stands for a name, not for the model that had it."""
    write_model(tmp_path, "m", 1, seed=1)
    with serving(tmp_path, free_port(), "--reload-s", "0.05") as client, Wire(client) as wire:
        raw = request(json.dumps({"model": "m", "inputs": FLAT}).encode())
        wire.socket.sendall(raw)
        assert json.loads(wire.answer()[2])["version"] == 1
        write_model(tmp_path, "m", 2, seed=2)
        version, end = 1, time.monotonic() + 20
        while version == 1 and time.monotonic() < end:
            wire.socket.sendall(raw)
            version = json.loads(wire.answer()[2])["version"]
        assert version == 2


def test_requests_are_counted_each(client: httpx.Client):
    """Whether their head was known or not."""
    with Wire(client) as wire:
        before = _count(client)
        for _ in range(5):
            wire.socket.sendall(KINDS["rows"])
            assert len(labels(wire.answer()[2])) == 3
        assert _count(client) == before + 5


def _count(client: httpx.Client) -> float:
    line = 'stillroom_requests_total{method="POST",route="/predict",status="200"} '
    return float(client.get("/metrics").text.partition(line)[2].partition("\n")[0])


def test_a_key_is_asked_for_each_time(tmp_path: Path):
    """A refusal is not another one's answer."""
    write_pair(tmp_path)
    with serving(tmp_path, free_port(), "--api-keys", KEY) as client, Wire(client) as wire:
        for _ in range(3):
            wire.socket.sendall(KINDS["rows"])
            assert wire.answer()[0] == 401


def test_a_service_that_ends_says_so_in_the_last_answer(tmp_path: Path):
    """A known head has said that the connection stays open; it does not."""
    write_pair(tmp_path)
    with running(tmp_path, free_port()) as (client, process), Wire(client) as wire:
        wire.socket.sendall(KINDS["rows"])
        assert "connection" not in wire.answer()[1]
        process.send_signal(signal.SIGTERM)
        headers: dict[str, str] = {}
        while "connection" not in headers:
            wire.socket.sendall(KINDS["rows"])
            status, headers, _ = wire.answer()
            assert status == 200
        assert headers["connection"] == "close"
        assert wire.stream.read() == b""
