"""The command line: every mistake is one line on stderr and status 2, told before anything is trained."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trainer.conftest import TINY, trainer
from trainer.__main__ import main

SHIPPED = "acoustic-full, digits, emnist, mnist, mnist-quick, spoken-digits, spoken-words"


@pytest.fixture
def recipe(tmp_path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one line that the trainer says to these arguments, in this process."""
    assert main(["train", *map(str, arguments)]) == 2
    return one_line(capsys.readouterr().err)


def one_line(stderr: str) -> str:
    (line,) = stderr.splitlines()
    assert line.startswith("trainer: ")
    return line.removeprefix("trainer: ")


def test_an_unknown_recipe(tmp_path):
    """It lists what ships."""
    done = trainer("train", "nope", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert one_line(done.stderr) == (
        f"no recipe 'nope': expected one that ships ({SHIPPED}) or the path of a .toml file"
    )


def test_a_wrong_key(tmp_path):
    """It names the key, and those that there are."""
    (tmp_path / "mine.toml").write_text('data = "digits"\n[student]\ntemprature = 4.0\n')
    done = trainer("train", "mine.toml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert one_line(done.stderr).startswith(
        "recipe mine.toml: unknown key 'student.temprature'; known there: network, "
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["train", "--seed", "x"], "argument --seed: 'x' is not a whole number between 0 and 2147483647"),
        (["train", "--seed", "-1"], "argument --seed: '-1' is not a whole number between 0 and 2147483647"),
        (["--seed", "2147483648"], "argument --seed: '2147483648' is not a whole number between 0 and 2147483647"),
        (["train", "--device", "tpu"], "argument --device: invalid choice: 'tpu'"),
        (["train", "--sed", "1"], "unrecognized arguments: --sed"),
        (["train", "digits", "mnist"], "unrecognized arguments: mnist"),
        (["--models-dir"], "argument --models-dir: expected one argument"),
        (["digits", "mnist"], "unrecognized arguments: mnist"),
    ],
)
def test_wrong_arguments(capsys, arguments, told):
    """One line, like every other mistake; `--help` has the rest."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert one_line(capsys.readouterr().err).startswith(told)


def test_a_wrong_argument_in_a_process_of_its_own(tmp_path):
    done = trainer("--seed", "x", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--seed" in one_line(done.stderr)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_without_cuda(tmp_path, recipe, capsys):
    """Asked for, so not silently replaced."""
    told = refused(capsys, recipe, "--device", "cuda", "--models-dir", tmp_path / "m", "--runs-dir", tmp_path / "r")
    assert told == "asked for cuda, but PyTorch finds no CUDA device; use --device cpu or auto"


def test_a_missing_data_set(tmp_path, capsys):
    """It says what to put where."""
    folders = ("--models-dir", tmp_path / "m", "--runs-dir", tmp_path / "r")
    told = refused(capsys, "mnist", "--data-dir", tmp_path, *folders)
    assert told.startswith(f"MNIST: {tmp_path}/mnist lacks train-images-idx3-ubyte.gz, ")
    assert "--data-dir DIR" in told


def test_stillroom_data_says_where_data_lie(tmp_path, capsys, monkeypatch):
    """The variable is read when the program runs, and an option goes before it."""
    monkeypatch.setenv("STILLROOM_DATA", str(tmp_path / "variable"))
    folders = ("--models-dir", tmp_path / "m", "--runs-dir", tmp_path / "r")
    assert refused(capsys, "mnist", *folders).startswith(f"MNIST: {tmp_path}/variable/mnist lacks")
    told = refused(capsys, "mnist", "--data-dir", tmp_path / "option", *folders)
    assert told.startswith(f"MNIST: {tmp_path}/option/mnist lacks")


def test_missing_data_of_a_recipe(tmp_path, capsys):
    (tmp_path / "mine.toml").write_text('data = "mine.npz"')
    told = refused(capsys, tmp_path / "mine.toml", "--models-dir", tmp_path / "m", "--runs-dir", tmp_path / "r")
    assert told == f"no data at {tmp_path}/mine.npz: expected an .npz file with `inputs` and `labels`"


def test_a_file_for_a_models_folder(tmp_path, recipe, capsys):
    """Told before hours of training, not after them."""
    (tmp_path / "models").write_text("mine")
    told = refused(capsys, recipe, "--models-dir", tmp_path / "models", "--runs-dir", tmp_path / "runs")
    assert told.startswith("cannot publish")
    assert f"{tmp_path}/models: File exists" in told
    assert list(tmp_path.rglob("*.safetensors")) == []
    assert (tmp_path / "models").read_text() == "mine"


def test_a_file_for_a_runs_folder(tmp_path, recipe, capsys):
    (tmp_path / "runs").write_text("mine")
    told = refused(capsys, recipe, "--models-dir", tmp_path / "models", "--runs-dir", tmp_path / "runs")
    assert told == f"cannot use the runs folder {tmp_path}/runs: File exists"


def test_a_full_disk_while_training(tmp_path, recipe, capsys, full_disk, monkeypatch):
    """The first checkpoint does not fit."""
    monkeypatch.setattr("trainer.fit.SAVE_EVERY_S", 0.0)
    with full_disk(1000):
        told = refused(capsys, recipe, "--models-dir", tmp_path / "models", "--runs-dir", tmp_path / "runs")
    assert told.startswith(f"cannot write {tmp_path}/runs/tiny-seed0-")
    assert told.endswith("File too large; choose another place with --runs-dir")


def features(folder: Path, recipe: str, **arrays: np.ndarray) -> Path:
    random = np.random.default_rng(0)
    labels = np.arange(90) % 3
    inputs = random.normal(size=(90, 5)) + 4 * np.eye(5)[labels]
    np.savez(folder / "mine.npz", **{"inputs": inputs, "labels": labels, **arrays})
    path = folder / "mine.toml"
    path.write_text(f'data = "mine.npz"\n{recipe}')
    return path


@pytest.mark.parametrize(
    ("lines", "asked"),
    [
        ("[ensemble]\njitter = 1", "ensemble.jitter = 1"),
        ("views = 2", "views = 2"),
        ("views = 2\n[ensemble]\njitter = 1", "views = 2 and ensemble.jitter = 1"),
    ],
)
def test_moving_images_that_are_none(tmp_path, capsys, lines, asked):
    """Features have nowhere to move to."""
    path = features(tmp_path, lines)
    told = refused(capsys, path, "--models-dir", tmp_path / "models", "--runs-dir", tmp_path / "runs")
    assert told == (f"recipe mine: {asked} would move images, but the examples of mine are none: their shape is [5]")
    assert list(tmp_path.rglob("*.safetensors")) == []


def test_a_diverging_run(tmp_path, capsys):
    """It says so, and what to try."""
    path = features(tmp_path, "[ensemble]\nmembers = 2\nhidden = [8, 8, 8]\nlearning_rate = 1e30\nepochs = 5\n")
    told = refused(capsys, path, "--models-dir", tmp_path / "models", "--runs-dir", tmp_path / "runs")
    assert told.startswith("training diverged in epoch ")
    assert told.endswith("; try a learning_rate below 1e+30")


def test_help_says_everything(tmp_path):
    """Every option, what it is by default, and the recipes that ship."""
    done = trainer("train", "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("RECIPE", "--data-dir", "--models-dir", "--runs-dir", "--device", "--seed", "--resume"):
        assert word in done.stdout
    for word in (
        "acoustic-full, digits, emnist, mnist, mnist-quick, spoken-digits, spoken-words",
        "STILLROOM_DATA",
        "(default: models)",
        "(default: auto)",
    ):
        assert word in " ".join(done.stdout.split())
    assert "train" in trainer("--help", cwd=tmp_path).stdout


def test_help_in_a_home_with_a_percent_sign(tmp_path, monkeypatch, capsys):
    """The default folders are shown as they are."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "100%d"))
    with pytest.raises(SystemExit) as caught:
        main(["train", "--help"])
    assert caught.value.code == 0
    assert "100%d" in "".join(capsys.readouterr().out.split())


def test_without_a_terminal_nothing_is_drawn(published):
    """A log has lines, no bars and no colours."""
    assert "\x1b" not in published.stdout
    assert "\r" not in published.stdout
    assert published.stdout.startswith("data …\ndata: ")
