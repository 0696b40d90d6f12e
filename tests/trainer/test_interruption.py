"""Ctrl-C and kill -9 in the middle of training: the next --resume ends with the weights of a run left in peace."""

import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.trainer.conftest import TINY, Run, contents, environment, trainer
from trainer.__main__ import main

IMPATIENT = """
import sys, trainer.fit
trainer.fit.SAVE_EVERY_S = 0.0
from trainer.__main__ import main
sys.exit(main())
"""
"""`python -m trainer`, with a checkpoint after every epoch, so that there is one within a second of training."""


class Interrupted(NamedTuple):
    """A run of TINY that got a signal: how it ended, and where it lies."""

    status: int
    stdout: str
    stderr: str
    home: Path
    arguments: list[str]


def kill(home: Path, arguments: list[str], stage: str, number: signal.Signals) -> Interrupted:
    """Starts the trainer and sends it a signal once a stage has a checkpoint, or has just ended."""
    process = subprocess.Popen(
        [sys.executable, "-c", IMPATIENT, *arguments],
        cwd=home,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that starts the tests in the background makes its children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while not list(home.glob(f"runs/tiny-*/{stage}-0*.safetensors")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    return Interrupted(process.returncode, stdout, stderr, home, arguments)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Interrupted]:
    """Ctrl-C while the members are trained; the recipe lies in a folder with a space in its name."""
    home = tmp_path_factory.mktemp("interrupted")
    (home / "my recipes").mkdir()
    (home / "my recipes" / "tiny.toml").write_text(TINY)
    arguments = ["train", "my recipes/tiny.toml", "--models-dir", "models", "--runs-dir", "runs", "--device", "cpu"]
    return kill(home, arguments, "members", signal.SIGINT)


def test_ctrl_c_says_how_to_go_on(interrupted):
    """Status 130, one line, no traceback, nothing published."""
    assert interrupted.status == 130
    blank, line = interrupted.stderr.splitlines()
    assert blank == ""
    assert line.startswith(f"trainer: interrupted; go on with: {sys.executable} -m trainer train ")
    assert line.endswith(" --resume")
    assert not list(interrupted.home.glob("models/*"))


def test_the_line_can_be_pasted_into_a_shell(interrupted):
    """With the recipe's name quoted where that is needed."""
    command = interrupted.stderr.strip().removeprefix("trainer: interrupted; go on with: ")
    assert shlex.split(command) == [sys.executable, "-m", "trainer", *interrupted.arguments, "--resume"]


def test_a_damaged_checkpoint_is_told(interrupted, tmp_path, capsys):
    """And nothing else is touched."""
    (folder,) = interrupted.home.glob("runs/tiny-*")
    (tmp_path / folder.name).mkdir()
    (tmp_path / folder.name / "members-0.checkpoint.safetensors").write_bytes(b"half a file")
    arguments = ["train", str(interrupted.home / interrupted.arguments[1]), "--models-dir", str(tmp_path / "models")]
    assert main([*arguments, "--runs-dir", str(tmp_path), "--device", "cpu", "--resume"]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"trainer: {tmp_path}/{folder.name}/members-0.checkpoint.safetensors is damaged (")
    assert told.count("\n") == 1


def test_after_ctrl_c_and_kill_9_resume_ends_with_the_same_weights(interrupted, published: Run):
    """Interrupted while the members are trained, killed while the student is, resumed: the same bytes, once each."""
    resumed = [*interrupted.arguments, "--resume"]
    killed = kill(interrupted.home, resumed, "student", signal.SIGKILL)
    assert killed.status == -signal.SIGKILL
    done = trainer(*resumed, cwd=interrupted.home)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(
        "published in models: tiny-ensemble/1, tiny-member/1, tiny-baseline/1, tiny-student/1\n"
    )
    found, expected = contents(interrupted.home / "models"), contents(published.models)
    assert found.keys() == expected.keys()
    graphs = [name for name in expected if name.endswith("model.onnx")]
    assert len(graphs) == 4
    assert all(found[name] == expected[name] for name in graphs)
    leftovers = [path.name for path in interrupted.home.glob("runs/tiny-*/*") if "checkpoint" in path.name]
    assert leftovers == []
