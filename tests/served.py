"""Starts our own programs as a user does: the trainer on the digits, the service on a port of its own.

It knows processes and sockets, not what is asserted about them.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

ROOT = Path(__file__).parent.parent
SAID = "output.txt"


class Digits(NamedTuple):
    """What `python -m trainer train digits` left behind, and what it said."""

    models: Path
    run: Path
    output: str


EVERYWHERE = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41"}
"""Arithmetic that every processor has: its own instructions round otherwise, and end in slightly other weights."""


def train_digits(folder: Path) -> Digits:
    """Runs the digits recipe as it ships, to the weights of which README has the figures."""
    arguments = ["train", "digits", "--models-dir", str(folder / "models"), "--runs-dir", str(folder / "runs")]
    command, environment = [sys.executable, "-m", "trainer", *arguments], {**os.environ, **EVERYWHERE}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (folder / SAID).write_text(done.stdout)
    return _digits(folder, done.stdout)


def digits_in(folder: Path) -> Digits | None:
    """What `train_digits` left there; None where it has not run to its end."""
    return _digits(folder, (folder / SAID).read_text()) if (folder / SAID).exists() else None


def _digits(folder: Path, output: str) -> Digits:
    found = re.search(r"results and plots: (.*)", output)
    assert found, output
    return Digits(folder / "models", Path(found[1]), output)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(models: Path, port: int, *options: str) -> Iterator[httpx.Client]:
    """`python -m service serve` over a repository, ready; ended by SIGTERM."""
    with running(models, port, *options) as (client, _):
        yield client


@contextmanager
def running(models: Path, port: int, *options: str) -> Iterator[tuple[httpx.Client, subprocess.Popen[str]]]:
    """As `serving`, with the process."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STILLROOM_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "serve", "--models-dir", str(models), "--port", str(port), *options],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            _wait_until_ready(client, process)
            yield client, process
    finally:
        process.terminate()
        process.communicate(timeout=20)


def _wait_until_ready(client: httpx.Client, process: subprocess.Popen[str]) -> None:
    for _ in range(600):
        assert process.poll() is None, process.communicate()[1]
        try:
            if client.get("/health/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("the service is not ready after a minute")
