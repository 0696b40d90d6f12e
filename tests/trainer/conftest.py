"""What the tests of the trainer share: one thread, a full disk, the command line, and one run of a tiny recipe."""

from __future__ import annotations

import io
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]

TINY = """\
data = "digits"
views = 1

[ensemble]
members = 2
hidden = [16]
dropout = 0.1
epochs = 40
batch_size = 128
learning_rate = 1e-2

[student]
hidden = [8]
epochs = 20
batch_size = 128
learning_rate = 2e-2
seeds = 2
"""
"""Long enough to be interrupted, and trained in half a second."""


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Networks this small only wait for each other on several threads."""
    import torch  # not above: processes that import this file need none

    torch.set_num_threads(1)


@pytest.fixture
def full_disk():
    """A disk on which no file grows beyond so many bytes: `with full_disk(100): ...`."""
    return _file_size_limit


@contextmanager
def _file_size_limit(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write then fails with EFBIG
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def environment() -> dict[str, str]:
    """Of a process of the trainer: this checkout, one thread, no data of this machine's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STILLROOM_")}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def trainer(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`python -m trainer ...` in that folder."""
    command = [sys.executable, "-m", "trainer", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=300)


def trainer_here(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The same without a process of its own, which would take seconds to import PyTorch and its exporter."""
    from trainer.__main__ import main

    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(cwd)
        patch.setenv("COLUMNS", "200")
        patch.setattr(sys, "path", list(sys.path))
        try:
            status = main(list(map(str, arguments)))
        except SystemExit as refused:  # argparse
            status = int(refused.code or 0)
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


class Run(NamedTuple):
    """A finished run of TINY: what it was started with, what it printed, and its folders."""

    recipe: Path
    arguments: Sequence[str]
    models: Path
    runs: Path
    stdout: str
    stderr: str

    @property
    def folder(self) -> Path:
        """The run's folder."""
        (folder,) = self.runs.glob("tiny-*")
        return folder


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One run of TINY by the real command line, in a process of its own; tests only read it."""
    home = tmp_path_factory.mktemp("published")
    recipe = home / "tiny.toml"
    recipe.write_text(TINY)
    arguments = ["train", str(recipe), "--models-dir", "models", "--runs-dir", "runs", "--device", "cpu"]
    done = trainer(*arguments, cwd=home)
    assert done.returncode == 0, done.stderr
    return Run(recipe, arguments, home / "models", home / "runs", done.stdout, done.stderr)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
