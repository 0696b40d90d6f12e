"""The servers that are compared: how each is started, and how the same rows are sent to it.

It knows command lines and bodies. It does not measure.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.serving.load import Request

GRACE_S = 30.0
"""What a server and the processes that it started are given to end by themselves."""

PEERS = {
    "litserve": "benchmarks.serving.peers.litserve",
    "mosec": "benchmarks.serving.peers.mosec",
    "mlserver": "benchmarks.serving.peers.mlserver",
    "bentoml": "bentoml serve benchmarks.serving.peers.bentoml:Model",
    "rayserve": "benchmarks.serving.peers.rayserve",
}
"""What `python -m` is given in the environment of each."""


def as_json(model: str, rows: NDArray[np.float32]) -> Request:
    """What most take at /predict; ours is told the model, the others have but one."""
    values = rows.reshape(len(rows), -1).astype(int).tolist()
    body = json.dumps({"model": model, "inputs": values}).encode()
    return Request("/predict", body, {"Content-Type": "application/json"})


def as_v2_json(_model: str, rows: NDArray[np.float32]) -> Request:
    """The Open Inference Protocol's JSON, to a peer whose only model is called `model`."""
    values = rows.reshape(-1).astype(int).tolist()
    entry = {"name": "input", "shape": list(rows.shape), "datatype": "FP32", "data": values}
    body = json.dumps({"inputs": [entry]}).encode()
    return Request("/v2/models/model/infer", body, {"Content-Type": "application/json"})


class Server(NamedTuple):
    """A server over one model of a repository: its name, its command, its variables, and how it takes rows."""

    name: str
    command: Sequence[str]
    variables: dict[str, str]
    binary: bool
    """Whether it takes binary tensors."""
    json: Callable[[str, NDArray[np.float32]], Request] = as_json
    """The request with rows for a model."""


def ours(models: Path, port: int, options: Sequence[str] = ()) -> Server:
    """The service as it ships."""
    command = [sys.executable, "-m", "service", "serve", "--models-dir", str(models), "--port", str(port), *options]
    return Server(" ".join(["stillroom", *options]), command, {}, binary=True)


def ten_minutes(models: Path, port: int, model: str) -> Server:
    """FastAPI, pydantic and a plain `def`."""
    command = [sys.executable, "-m", "uvicorn", "benchmarks.serving.ten_minutes:app", "--port", str(port)]
    command += ["--no-access-log"]
    graph = models / model / "1" / "model.onnx"
    return Server("ten minutes", command, {"MODEL": str(graph)}, binary=False)


def python_of(name: str, peers_dir: Path) -> Path:
    """The interpreter of a peer's environment, which need not exist."""
    # Absolute, not resolved: a venv's python is a link, and the place of the link makes the environment.
    return peers_dir.absolute() / name / "bin" / "python"


def peer(name: str, peers_dir: Path, models: Path, port: int, model: str) -> Server:
    """One of PEERS in its environment."""
    variables = {"MODEL": str(models / model / "1" / "model.onnx"), "PORT": str(port)}
    variables |= {"MOSEC_PORT": str(port), "BENTOML_PORT": str(port), "BENTOML_HOST": "127.0.0.1"}
    variables |= {"BENTOML_DO_NOT_TRACK": "True", "RAY_USAGE_STATS_ENABLED": "0"}
    command = [str(python_of(name, peers_dir)), "-m", *PEERS[name].split()]
    return Server(name, command, variables, binary=False, json=as_v2_json if name == "mlserver" else as_json)


def as_binary(model: str, rows: NDArray[np.float32]) -> Request:
    """The Open Inference Protocol's binary tensors, both ways."""
    entry = {"name": "input", "shape": list(rows.shape), "datatype": "FP32"}
    head = json.dumps(
        {
            "inputs": [{**entry, "parameters": {"binary_data_size": rows.nbytes}}],
            "outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}],
        }
    ).encode()
    headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
    return Request(f"/v2/models/{model}/infer", head + rows.tobytes(), headers)


class Running(NamedTuple):
    """A started server: its process, and seconds from the start to its first good answer."""

    process: subprocess.Popen[bytes]
    first_answer_s: float

    def megabytes(self) -> float:
        """Resident memory of the process and of those that it started."""
        return sum(map(resident, family(self.process.pid))) / 2**20


@contextmanager
def running(server: Server, port: int, request: Request) -> Iterator[Running]:
    """Starts a server, waits for its first good answer, and ends it with all that it started."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # Some leave files, and Ray tells everyone in the common folder of its cluster.
        environment = {**os.environ, **server.variables, "TMPDIR": folder}
        process = subprocess.Popen(  # noqa: S603 - a command of ours
            list(server.command), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            _wait(process, port, request)
            yield Running(process, time.perf_counter() - start)
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends it by SIGTERM, then the children that it left behind, as some servers do. What has not ended after GRACE_S
    is killed; where that is the server, raises subprocess.TimeoutExpired."""
    with ExitStack() as stack:
        pids = family(process.pid) if process.poll() is None else []  # else the number may be another's by now
        handles = [handle for pid in pids if (handle := _opened(pid, stack)) is not None]
        process.terminate()
        try:
            process.wait(timeout=GRACE_S)
        finally:
            _signal(handles[1:], signal.SIGTERM)
            end = time.monotonic() + GRACE_S
            while (left := _alive(handles)) and time.monotonic() < end:
                time.sleep(0.01)
            _signal(left, signal.SIGKILL)
            process.wait()


def _alive(handles: Sequence[int]) -> list[int]:
    ended = select.select(handles, [], [], 0)[0]
    return [handle for handle in handles if handle not in ended]


def _signal(handles: Sequence[int], number: signal.Signals) -> None:
    for handle in handles:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, number)


def _opened(pid: int, stack: ExitStack) -> int | None:
    """A handle of a process, which cannot mean another one later as a number could; None where it has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    stack.callback(os.close, handle)
    return handle


def _wait(process: subprocess.Popen[bytes], port: int, request: Request) -> None:
    end = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < end:
        asked = urllib.request.Request(f"http://127.0.0.1:{port}{request.path}", request.body, request.headers)
        try:
            with urllib.request.urlopen(asked, timeout=20):  # noqa: S310 - our own address
                return
        except OSError:
            time.sleep(0.01)
    raise RuntimeError(f"{process.args!r} answered no request within a minute (exit status {process.returncode})")


def family(pid: int) -> list[int]:
    """The process and all that it started, from whichever thread."""
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            found += [each for child in children.read_text().split() for each in family(int(child))]
    return found


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
