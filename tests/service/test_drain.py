"""The end of a service has a limit: whoever cannot be answered by then is told, and nothing is waited for."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.repositories import examples, write_model
from tests.served import ROOT, free_port, running

ROWS = 1024
BODY = json.dumps({"inputs": examples(ROWS)[0].reshape(ROWS, -1).astype(int).tolist()}).encode()


def slow_graph(products: int = 1500, width: int = 1024) -> bytes:
    """So many products with the identity: some ten seconds for ROWS rows."""
    weights = {"in": np.eye(64, width), "same": np.eye(width), "out": np.eye(width, 10)}
    names = ["in", *["same"] * products, "out"]
    nodes = [helper.make_node("Flatten", ["input"], ["x0"], axis=1)]
    nodes += [helper.make_node("MatMul", [f"x{at}", name], [f"x{at + 1}"]) for at, name in enumerate(names)]
    nodes += [helper.make_node("Identity", [f"x{len(names)}"], ["logits"])]
    nodes += [helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1)]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["B", 10]) for n in ("probabilities", "logits")]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["B", 8, 8])]
    constants = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "slow", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_run_that_outlasts_the_drain_is_given_up(workers: str, tmp_path: Path):
    """On either route its client gets a 503 with an id when the time is over; the process ends a moment later."""
    write_model(tmp_path, graph=slow_graph())
    options = ["--drain-s", "2", "--workers", workers]
    with running(tmp_path, free_port(), *options) as (client, process), ThreadPoolExecutor(2) as pool:
        url = f"{client.base_url}/predict"
        asked: list[Future[httpx.Response]] = [
            pool.submit(httpx.post, url, content=content, timeout=60) for content in (BODY, iter([BODY]))
        ]
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        for answer in (future.result() for future in asked):
            assert (answer.status_code, answer.headers["content-type"]) == (503, "application/json")
            assert answer.json() == {"error": "the service is ending and had no more time for this"}
            assert answer.headers["x-request-id"]
        assert process.wait(timeout=20) == 0
        assert 1.9 < time.monotonic() - started < 5


def test_a_load_that_outlasts_the_drain_is_not_waited_for(tmp_path: Path):
    """Of a model that takes long to warm."""
    write_model(tmp_path, graph=slow_graph(products=30_000))
    command = [sys.executable, "-m", "service", "serve", "--models-dir", str(tmp_path)]
    process = subprocess.Popen(
        [*command, "--port", str(free_port()), "--drain-s", "1"], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    time.sleep(3)
    process.send_signal(signal.SIGTERM)
    started = time.monotonic()
    _, said = process.communicate(timeout=60)
    assert (process.returncode, time.monotonic() - started < 5) == (0, True)
    assert "something still ran 1 s after the time to end: it was not waited for" in said
