"""What the container files say agrees with the project: paths, users, ports, variables, requirements, health check.

No container engine is needed. docs/containers.md tells what was seen with one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pytest

from service import __version__
from service.settings import PREFIX, Settings, read_settings
from tests.repositories import write_model
from tests.served import ROOT, free_port, serving

IMAGES = ("service", "trainer")
COMPOSE = {name: (ROOT / name).read_text() for name in ("docker-compose.yml", "docker-compose.gpu.yml")}
DOCUMENT = (ROOT / "docs" / "containers.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


class Step(NamedTuple):
    """One instruction of the Dockerfile: `COPY`, `LICENSE /app/`."""

    word: str
    text: str


def read_stages() -> dict[str, list[Step]]:
    """The instructions of each stage, those of the stage that it is built from first."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    stages: dict[str, list[Step]] = {}
    steps: list[Step] = []
    for line in re.sub(r"\\\n", "", "\n".join(lines)).splitlines():
        word, _, text = line.partition(" ")
        if word == "FROM":
            base, _, name = text.partition(" AS ")
            steps = stages[name] = list(stages.get(base, []))
        elif line:
            steps.append(Step(word, text.strip()))
    return stages


STAGES = read_stages()


def last(stage: str, word: str) -> str:
    return [step.text for step in STAGES[stage] if step.word == word][-1]


def variables(stage: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for step in STAGES[stage] if step.word == "ENV" for pair in step.text.split())


def run_step(text: str, folder: Path, accelerator: str) -> subprocess.CompletedProcess[str]:
    """Runs a RUN instruction as a builder does: by sh, with its arguments in the environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": path, "ACCELERATOR": accelerator}
    return subprocess.run(["sh", "-c", text], cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def test_the_builder_gets_what_is_copied_and_nothing_else():
    """.dockerignore lets through exactly the sources of COPY, and all of them exist."""
    copied = {
        source
        for steps in STAGES.values()
        for word, text in steps
        if word == "COPY" and not text.startswith("--from")
        for source in text.split()[:-1]
    }
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied
    assert [source for source in copied if not (ROOT / source).exists()] == []


@pytest.mark.parametrize("accelerator", ["cpu", "gpu"])
def test_what_is_installed_is_what_pyproject_says(tmp_path: Path, accelerator: str):
    """The base and one runtime for the service, the trainer's extra on top of them."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    done = run_step(last("requirements", "RUN"), tmp_path, accelerator)
    extras = PROJECT["optional-dependencies"]
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "service.txt").read_text().splitlines() == PROJECT["dependencies"] + extras[accelerator]
    assert (tmp_path / "trainer.txt").read_text().splitlines() == extras["trainer"]


def test_an_unknown_accelerator_is_refused(tmp_path: Path):
    """The builder stops with one line."""
    check = next(step.text for step in STAGES["requirements"] if step.word == "RUN")
    done = run_step(check, tmp_path, "rocm")
    assert (done.returncode, done.stderr) == (1, "ACCELERATOR: got 'rocm', expected cpu or gpu\n")


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_runs_as_an_unprivileged_user_of_a_fixed_number(image: str):
    """The number is that of the user who is made, who owns the places to write to, and whom the document names."""
    user = last(image, "USER")
    uid, gid = user.split(":")
    made = next(step.text for step in STAGES[image] if "useradd" in step.text)
    assert int(uid) > 0
    assert f"useradd --uid {uid} " in made
    assert f"--owner {uid} --group {gid} " in made
    assert f"`{user}`" in DOCUMENT


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_starts_its_own_program_without_a_shell(image: str):
    """The program itself is process 1 and gets the signals."""
    command = json.loads(last(image, "ENTRYPOINT"))
    assert command == ["python", "-m", image]
    assert json.loads(last(image, "CMD"))
    assert f"COPY {image} {variables(image)['PYTHONPATH']}/{image}" in [" ".join(step) for step in STAGES[image]]


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_bears_the_version_of_the_project(image: str):
    """The label says what the package says."""
    assert f'org.opencontainers.image.version="{__version__}"' in last(image, "LABEL")


def test_the_service_gets_settings_that_it_takes():
    """The image's variables are settings; it listens where it is exposed, published and documented."""
    settings = read_settings({}, variables("service"))
    port = Settings().port
    assert settings.host == "0.0.0.0"
    assert settings.port == port == int(last("service", "EXPOSE"))
    assert f'"127.0.0.1:{port}:{port}"' in COMPOSE["docker-compose.yml"]
    assert f"http://localhost:{port}" in DOCUMENT


def test_every_variable_named_is_a_setting():
    """No compose file and no sentence of the document speaks of a variable that nobody reads."""
    known = {PREFIX + name.upper() for name in Settings.__dataclass_fields__} | {"STILLROOM_DATA"}
    named = set(re.findall(PREFIX + r"[A-Z_]+", "".join(COMPOSE.values()) + DOCUMENT))
    assert named - known == set()
    assert set(variables("service")) & known <= named


def test_the_volumes_cover_the_folders_that_are_written():
    """The shared one lies above the models, because a version is staged beside them; the service cannot write there."""
    mounts = re.findall(r"- \w+:(/\w+)(:ro)?$", COMPOSE["docker-compose.yml"], flags=re.M)
    made = next(step.text for step in STAGES["service"] if "useradd" in step.text)
    models, state = (PurePosixPath(variables("service")[PREFIX + name]) for name in ("MODELS_DIR", "STATE_DIR"))
    shared = str(models.parent)
    assert last("trainer", "WORKDIR") == shared, "the trainer publishes into `models`, here"
    assert sorted(mounts) == sorted(
        [(shared, ":ro"), (str(state), ""), (shared, ""), (variables("trainer")["XDG_CACHE_HOME"], "")]
    )
    assert [folder for folder, _ in mounts if f" {folder}" not in made] == []


def test_the_health_check_tells_a_service_that_answers_from_one_that_does_not(tmp_path: Path):
    """Exit status 0 or another, as the engine asks it."""
    write_model(tmp_path)
    port = free_port()
    command = json.loads(last("service", "HEALTHCHECK").partition(" CMD ")[2])
    check = [sys.executable, *command[1:]]
    environment = {PREFIX + "PORT": str(port)}
    with serving(tmp_path, port):
        assert subprocess.run(check, env=environment, timeout=30).returncode == 0
    assert subprocess.run(check, env=environment, timeout=30, stderr=subprocess.DEVNULL).returncode != 0
