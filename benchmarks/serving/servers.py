"""The servers that are compared: how each is started, and how the same rows are sent to it.

It knows command lines and bodies. It does not measure.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.serving.load import Request


class Server(NamedTuple):
    """A server over one model of a repository: its name, its command, its variables, and where it takes rows."""

    name: str
    command: Sequence[str]
    variables: dict[str, str]
    binary: bool
    """Whether it takes binary tensors."""


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


def as_json(model: str, rows: NDArray[np.float32]) -> Request:
    """What both take at /predict; ours is told the model, the other has but one."""
    values = rows.reshape(len(rows), -1).astype(int).tolist()
    return Request(
        "/predict", json.dumps({"model": model, "inputs": values}).encode(), {"Content-Type": "application/json"}
    )


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
    """Starts a server, waits for its first good answer, and ends it."""
    start = time.perf_counter()
    environment = {**os.environ, **server.variables}
    process = subprocess.Popen(  # noqa: S603 - a command of ours
        list(server.command), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait(process, port, request)
        yield Running(process, time.perf_counter() - start)
    finally:
        process.terminate()
        process.wait(timeout=30)


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
    """The process and all that it started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in family(int(child)))]


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
