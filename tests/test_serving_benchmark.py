"""The serving benchmarks ask both sides the same and understand what wrk says; nothing is timed here."""

from __future__ import annotations

import json
import shutil
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from benchmarks.serving.load import Request, load
from benchmarks.serving.models import examples, write_models
from benchmarks.serving.servers import Server, as_binary, as_json, ours, running, ten_minutes
from tests.served import free_port

MODEL = "bench-student"


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
