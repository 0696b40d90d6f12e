"""service/__main__.py: one line for what is wrong, and a real process that waits, becomes ready and ends quietly."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import onnx
import onnxruntime
import pytest
import uvicorn
from onnx import TensorProto, helper

from service.__main__ import PROBE, listen, main
from service.app import create_app
from service.session import open_session
from service.settings import Settings
from tests.repositories import examples, known_probabilities, write_model

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def _same_signals_and_no_variables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("STILLROOM_")]:
        monkeypatch.delenv(name)
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--port", "http"], "--port: got 'http', expected a valid integer, unable to parse string as an integer"),
        (["serve", "--device", "tpu"], "--device: got 'tpu', expected 'auto', 'cpu' or 'cuda'"),
        (["--port"], "argument --port: expected one argument; see --help"),
        (["--prot", "80"], "unrecognized arguments: --prot 80; see --help"),
        (["compete"], "unrecognized arguments: compete; see --help"),
        (["--models-dir", "FILE"], "--models-dir: got 'FILE', expected a folder that can be read: Not a directory"),
        (
            ["--models-dir", "LOOP"],
            "--models-dir: got 'LOOP', expected a folder that can be read: Too many levels of symbolic links",
        ),
        (["--workers", "2", "--model-control", "true"], "--model-control: got it with 2 workers, expected one: "),
        (["--state-dir", "FILE/x"], "--state-dir: got 'FILE/x', expected a folder that can be made: Not a directory"),
        (
            ["--host", "192.0.2.1", "--port", "0"],
            "cannot listen on port 0 of 192.0.2.1: Cannot assign requested address",
        ),
        (["--host", "", "--port", "0"], "--host: got '', expected an address of this machine: "),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: list[str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """On the error stream, with exit status 2."""
    monkeypatch.chdir(tmp_path)
    Path("FILE").write_text("")
    Path("LOOP").symlink_to("LOOP")
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"service: {text}")


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """By its own name."""
    monkeypatch.setenv("STILLROOM_MAX_BATCH", "0")
    assert main([]) == 2
    assert capsys.readouterr().err == "service: STILLROOM_MAX_BATCH: got '0', expected greater than or equal to 1\n"


def test_a_taken_port_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Before anything is loaded."""
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert main(["--port", str(port), "--models-dir", str(tmp_path)]) == 2
    expected = f"service: port {port} of 127.0.0.1 is taken: choose another with --port, 0 for any\n"
    assert capsys.readouterr().err == expected


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this onnxruntime has CUDA"
)
def test_cuda_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]):
    """It does not fall back to the CPU."""
    assert main(["--device", "cuda"]) == 2
    remedy = r"install the gpu extra \(make run ACCELERATOR=gpu\) or use --device cpu"
    line = rf"service: asked for cuda, but this onnxruntime has [\w, ]+: {remedy}\n"
    assert re.fullmatch(line, capsys.readouterr().err)


def test_the_probe_of_a_provider_is_the_smallest_graph():
    """y = Identity(x); it is written out because only the check of models may need onnx."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "probe", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    assert onnx.load_model_from_string(PROBE) == model
    assert open_session(PROBE, device="cpu", threads=1).run(None, {"x": np.ones(1, dtype=np.float32)})[0] == 1


@pytest.mark.parametrize(
    ("arguments", "text"), [(["--help"], "serve the models over HTTP"), (["serve", "--help"], "STILLROOM_PORT")]
)
def test_help_is_there(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]):
    """Of the command and of its verb."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    assert text in capsys.readouterr().out


@contextmanager
def service(models: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m service` over a repository on any free port; `log` is its error stream."""
    command = [sys.executable, "-W", "error", "-m", "service", "--models-dir", str(models), "--port", "0"]
    variables = {**os.environ, "STILLROOM_RELOAD_S": "0.05", "STILLROOM_DEVICE": "cpu"}
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=stream, stderr=stream)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(pattern: str, log: Path) -> str:
    """What the pattern's group caught, once the log holds it."""
    for _ in range(400):
        if found := re.search(pattern, log.read_text()):
            return found[1]
        time.sleep(0.05)
    raise AssertionError(f"{pattern!r} is not in the log after 20 s:\n{log.read_text()}")


def test_a_real_process_waits_for_models_serves_them_and_ends_quietly(tmp_path: Path):
    """Whatever clients send meanwhile; SIGTERM ends it with status 0, and the log holds nothing else."""
    models, log = tmp_path / "models", tmp_path / "log"
    with service(models, log) as process:
        wait_for("(waiting for the trainer)", log)
        write_model(models)
        base = wait_for("ready: the page is (http://127.0.0.1:[0-9]+)/", log)
        inputs, _ = examples(4)
        answer = httpx.post(f"{base}/predict", json={"inputs": inputs.tolist()}).json()
        np.testing.assert_allclose(answer["probabilities"], known_probabilities(inputs), atol=1e-6)
        assert httpx.post(f"{base}/predict", content=b" " * 40_000_000).status_code == 413
        with socket.create_connection(("127.0.0.1", httpx.URL(base).port)) as client:
            client.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        assert httpx.get(f"{base}/health/ready").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    lines = [re.sub(r"^[-0-9]+ [:,0-9]+ ", "", line) for line in log.read_text().splitlines()]
    assert lines == [
        f"WARNING no model in {models} can be served yet: waiting for the trainer to publish one",
        "INFO loaded digits-student/1: student, 650 parameters, CPUExecutionProvider",
        f"INFO ready: the page is {base}/, the reference {base}/docs",
    ]


def test_ctrl_c_ends_it_quietly(tmp_path: Path):
    """Status 0, no traceback."""
    log = tmp_path / "log"
    with service(tmp_path / "models", log) as process:
        wait_for("(waiting for the trainer)", log)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert len(log.read_text().splitlines()) == 1


async def test_a_mistake_of_ours_is_in_the_log_with_its_traceback(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """And nowhere else."""

    async def mistake() -> None:
        raise RuntimeError("a mistake")

    app = create_app(Settings(models_dir=tmp_path, device="cpu", threads=1))
    app.add_api_route("/mistake", mistake)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, log_level="warning"))
    with listen("127.0.0.1", 0) as listener:
        running = asyncio.create_task(server.serve([listener]))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
            answer = await client.get("/mistake")
        server.should_exit = True
        await running
    assert (answer.status_code, answer.json()) == (500, {"error": "internal error; the log has the reason"})
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "RuntimeError: a mistake" in caplog.text
    assert record.exc_info is not None
