"""The serving benchmarks ask both sides the same and understand what wrk says; nothing is timed here."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from benchmarks.comparing import found
from benchmarks.serving.__main__ import main
from benchmarks.serving.load import Request, load
from benchmarks.serving.models import examples, write_models
from benchmarks.serving.servers import (
    PEERS,
    Server,
    as_binary,
    as_json,
    ours,
    peer,
    python_of,
    running,
    ten_minutes,
)
from tests.served import free_port

MODEL = "bench-student"
PEERS_DIR = os.environ.get("PEERS_DIR")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny ones of the same names and shapes."""
    folder = tmp_path_factory.mktemp("bench") / "models"
    write_models(folder, student=(784, 4, 10), member=(784, 4, 10))
    return folder


def answer(port: int, request: Request) -> bytes:
    asked = urllib.request.Request(f"http://127.0.0.1:{port}{request.path}", request.body, request.headers)
    with urllib.request.urlopen(asked, timeout=20) as found:
        return bytes(found.read())


def test_both_sides_answer_the_same_rows_alike(models: Path):
    """Ours in JSON and in binary, and the ten-minute endpoint."""
    rows, port = examples(3), free_port()
    with running(ours(models, port), port, as_json(MODEL, rows)) as started:
        found = json.loads(answer(port, as_json(MODEL, rows)))["probabilities"]
        binary = np.frombuffer(answer(port, as_binary(MODEL, rows))[-120:], "<f4").reshape(3, 10)
        assert started.megabytes() > 20
        assert started.first_answer_s > 0
    np.testing.assert_allclose(binary, found, atol=1e-6)
    port = free_port()
    with running(ten_minutes(models, port, MODEL), port, as_json(MODEL, rows)):
        theirs = json.loads(answer(port, as_json(MODEL, rows)))["probabilities"]
    np.testing.assert_allclose(theirs, found, atol=1e-6)


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_wrk_tells_rates_latencies_and_failures(models: Path):
    """What a server refuses has failed."""
    port = free_port()
    good = as_json(MODEL, examples(1))
    with running(ours(models, port), port, good):
        measured = load(port, good, 2, 1)
        assert measured.rate > 0
        assert 0 < measured.p50_ms <= measured.p99_ms
        assert measured.failed == 0
        assert load(port, good._replace(path="/nothing"), 2, 1).failed > 0


def test_a_server_that_ends_is_told(models: Path):
    """With its exit status."""
    port = free_port()
    broken = Server("broken", ["false"], {}, binary=False)
    with (
        pytest.raises(RuntimeError, match=r"answered no request within a minute \(exit status 1\)"),
        running(broken, port, as_json(MODEL, examples(1))),
    ):
        pass


def numbers(name: str, body: bytes) -> list[float]:
    """What a request to a peer says, flat."""
    said = json.loads(body)["inputs"]
    found = said[0]["data"] if name == "mlserver" else [value for row in said for value in row]
    return list(map(float, found))


def test_requests_to_all_peers_carry_the_same_numbers(models: Path, tmp_path: Path):
    """Those of the rows."""
    rows = examples(3)
    for name in PEERS:
        server = peer(name, tmp_path, models, 9000, MODEL)
        assert numbers(name, server.json(MODEL, rows).body) == rows.reshape(-1).tolist(), name
        assert Path(server.variables["MODEL"]).exists()


def test_a_peer_without_an_environment_is_told(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """And the rest goes on without it."""
    given = ["--models-dir", str(models), "--peers-dir", str(tmp_path), "--peers", "mosec,litserve"]
    main([*given, "--repetitions", "0", "--only", "student"])
    said = capsys.readouterr().out
    assert f"mosec: not installed, there is no {tmp_path}/mosec/bin/python" in said
    assert f"litserve: not installed, there is no {tmp_path}/litserve/bin/python" in said
    assert "**student, one row of JSON**" in said


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (["--peers-dir", ".", "--peers", "mosec,nope"], "unknown peers nope; available: litserve, mosec, "),
        (["--peers", "mosec"], "--peers needs --peers-dir"),
    ],
)
def test_peers_that_cannot_be_meant_are_refused(given: list[str], text: str, capsys: pytest.CaptureFixture[str]):
    """With what is available."""
    with pytest.raises(SystemExit):
        main(given)
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("name", PEERS)
def test_an_installed_peer_answers_as_the_ten_minute_endpoint(name: str, models: Path):
    """The same probabilities for the same rows."""
    if PEERS_DIR is None or not python_of(name, Path(PEERS_DIR)).exists():
        pytest.skip(f"no environment of {name}: PEERS_DIR is {PEERS_DIR}; benchmarks/serving/peers says how to make it")
    rows, port = examples(3), free_port()
    with running(ten_minutes(models, port, MODEL), port, as_json(MODEL, rows)):
        wanted = json.loads(answer(port, as_json(MODEL, rows)))["probabilities"]
    port = free_port()
    server = peer(name, Path(PEERS_DIR), models, port, MODEL)
    with running(server, port, server.json(MODEL, rows)):
        said = json.loads(answer(port, server.json(MODEL, rows)))
    if name == "mlserver":
        said = {"probabilities": said["outputs"][0]["data"]}
    found = said["probabilities"] if isinstance(said, dict) else said  # BentoML answers the array itself
    np.testing.assert_allclose(np.reshape(found, (3, 10)), wanted, atol=1e-6)


LEAVES_A_CHILD = """
import http.server, os, signal, sys

class Answer(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(child).encode())

child = os.fork()
if child == 0:
    signal.pause()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""


def test_what_a_server_leaves_behind_is_ended_too():
    """A child of its own that nobody told to end."""
    port, request = free_port(), Request("/", b"", {})
    with running(
        Server("careless", [sys.executable, "-c", LEAVES_A_CHILD, str(port)], {}, binary=False), port, request
    ):
        child = int(answer(port, request))
        assert Path(f"/proc/{child}").exists()
    assert not alive(child)


def alive(pid: int) -> bool:
    """Whether a process runs: an ended one may stay in the list until its new parent has noticed."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_benchmark_of_comparisons_tells_how_often_it_was_right(models: Path):
    """Once, with few blocks: only that the table is whole."""
    lines = list(found(models, repetitions=1, blocks=3))
    assert lines[0].startswith("| model | against itself: holds 1 |")
    for name, line in zip(("bench-student", "bench-ensemble"), lines[2:], strict=True):
        assert re.fullmatch(rf"\| {name} \| [01] of 1 \| [\d.]+ % \| [01] of 1 \| [01] of 1 \|", line)
