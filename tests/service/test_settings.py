"""service/settings.py: a flag beats a variable, a wrong value is named, and threads are what the cgroups pay for."""

from __future__ import annotations

import os
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from service.errors import SettingsError
from service.machine import usable_cpus
from service.settings import Settings, help_of, read_settings

CPUS = len(os.sched_getaffinity(0))


def test_a_flag_beats_a_variable_beats_the_default():
    """And an empty variable, as compose files leave them, is none."""
    environ = {"STILLROOM_PORT": "9000", "STILLROOM_HOST": "0.0.0.0", "STILLROOM_MODELS_DIR": ""}
    settings = read_settings({"port": "9100", "host": None}, environ)
    assert (settings.port, settings.host, settings.models_dir) == (9100, "0.0.0.0", Path("models"))


def test_every_setting_comes_from_its_variable_in_its_own_type():
    """Text becomes a number, a path or a choice."""
    values = {
        "MODELS_DIR": "/m",
        "HOST": "::1",
        "PORT": "0",
        "DEVICE": "cpu",
        "WORKERS": "2",
        "THREADS": "3",
        "MAX_BATCH": "7",
        "MAX_QUEUE": "9",
        "TIMEOUT_S": "1.5",
        "DRAIN_S": "4",
        "MAX_BODY_BYTES": "1000",
        "MAX_IMAGE_PIXELS": "64",
        "RELOAD_S": "0.5",
        "MAX_CONNECTIONS": "8",
        "CORS_ORIGINS": "https://a",
        "API_KEYS": "a:predict:0",
        "API_KEYS_FILE": "/k",
        "LOG_FORMAT": "json",
        "ACCESS_LOG": "yes",
        "TRACES": "true",
        "MODEL_CONTROL": "true",
        "STATE_DIR": "/s",
    }
    assert {field.name.upper() for field in fields(Settings)} == values.keys()
    settings = read_settings({}, {f"STILLROOM_{name}": value for name, value in values.items()})
    numbers = [2, 3, 7, 9, 1.5, 4, 1000, 64, 0.5, 8]
    rest = ["https://a", "a:predict:0", Path("/k"), "json", True, True, True, Path("/s")]
    assert settings == Settings(*[Path("/m"), "::1", 0, "cpu", *numbers, *rest])


def test_workers_share_the_cpus(monkeypatch: pytest.MonkeyPatch):
    """Each model gets at least one thread; who says how many gets so many."""
    monkeypatch.setattr("service.settings.usable_cpus", lambda: 8)
    found = [Settings(workers=workers).threads_each for workers in (1, 3, 8, 20)]
    assert found == [8, 2, 1, 1]
    assert Settings(workers=3, threads=5).threads_each == 5


def test_settings_are_frozen():
    """Nobody changes them after the start."""
    with pytest.raises(FrozenInstanceError):
        Settings().port = 1


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("port", "http", "got 'http', expected a valid integer, unable to parse string as an integer"),
        ("port", "65536", "got '65536', expected less than or equal to 65535"),
        ("device", "tpu", "got 'tpu', expected 'auto', 'cpu' or 'cuda'"),
        ("threads", "0", "got '0', expected greater than or equal to 1"),
        ("max_batch", "-1", "got '-1', expected greater than or equal to 1"),
        ("reload_s", "0", "got '0', expected greater than 0"),
        ("reload_s", "inf", "got 'inf', expected a finite number"),
    ],
)
def test_a_wrong_value_is_named_with_its_key_and_what_was_expected(name: str, value: str, text: str):
    """The key is the flag or the variable, whichever was used."""
    with pytest.raises(SettingsError) as caught:
        read_settings({name: value}, {})
    assert str(caught.value) == f"--{name.replace('_', '-')}: {text}"
    with pytest.raises(SettingsError) as caught:
        read_settings({}, {f"STILLROOM_{name.upper()}": value})
    assert str(caught.value) == f"STILLROOM_{name.upper()}: {text}"


def test_help_says_the_default_and_the_variable():
    """As --help shows it."""
    assert help_of("port") == "port to listen on; 0 for any free one; default 8000 (STILLROOM_PORT)"


def cgroup(root: Path, membership: str, files: dict[str, str]) -> tuple[Path, Path]:
    """A cgroup file system as the kernel shows it, and the file that says where the process is in it."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "membership").write_text(membership)
    return root, root / "membership"


BOTH = "3:cpu,cpuacct:/docker/1\n2:memory:/docker/1\n0::/docker/1\n"


@pytest.mark.parametrize(
    ("membership", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "100000 100000\n"}, 1),  # version 2, in a container
        ("0::/docker/1\n", {"cpu.max": "100000 100000\n"}, 1),  # the same with the host's path
        ("0::/a/b\n", {"a/cpu.max": "100000 100000\n", "a/b/cpu.max": "max 100000\n"}, 1),  # a group above has it
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),  # half a CPU is one thread
        ("0::/\n", {"cpu.max": "max 100000\n"}, CPUS),
        ("0::/\n", {"cpu.max": "99900000 100000\n"}, CPUS),  # more than there are
        (BOTH, {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),  # version 1
        (BOTH, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, CPUS),
        ("0::/\n", {}, CPUS),
    ],
)
def test_the_usable_cpus_are_those_that_the_quota_pays_for(
    membership: str, files: dict[str, str], quota: int, tmp_path: Path
):
    """Not those of the machine."""
    assert usable_cpus(*cgroup(tmp_path, membership, files)) == quota


def test_without_cgroups_the_usable_cpus_are_those_that_the_process_is_bound_to(tmp_path: Path):
    """As on a system that has none."""
    assert usable_cpus(tmp_path, tmp_path / "none") == CPUS
