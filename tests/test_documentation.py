"""README is true: its commands run, its answers are what comes back, and nothing that exists is missing from it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from pydantic import BaseModel

from service.__main__ import main as service_main
from service.app import create_app
from service.settings import Settings
from tests.served import ROOT, Digits, free_port, serving
from trainer.__main__ import main as trainer_main
from trainer.recipe import EnsembleTable, Recipe, SpecialistsTable, StudentTable, shipped

README = (ROOT / "README.md").read_text()
CLOCKED = {"timings_ms", "latency_ms", "throughput", "speed_up", "batch_speed_up", "seconds", "batch", "machine"}
"""Keys whose values are of the machine and the moment: their kind is compared, not their value."""


class Exchange(NamedTuple):
    """A command of a console block and what the block says it prints."""

    command: str
    expected: str


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.M | re.S)


def exchanges() -> list[Exchange]:
    found = []
    for block in blocks("console"):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, expected = part.partition("\n")
            found.append(Exchange(command, expected.strip()))
    return found


def assert_like(expected: Any, found: Any, place: str = "answer") -> None:
    """`found` has every key that README shows and the same values, numbers to 0.02."""
    if isinstance(expected, dict) and expected.get("probability", 1.0) < 0.02:
        assert found.keys() == expected.keys(), place  # which class is the least unlikely depends on the processor
    elif isinstance(expected, dict):
        for key, value in expected.items():
            assert key in found, f"{place}.{key} is not in the answer: {sorted(found)}"
            if key in CLOCKED:
                assert isinstance(found[key], (int, float) if isinstance(value, int) else type(value)), f"{place}.{key}"
            else:
                assert_like(value, found[key], f"{place}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), place
        for index, (one, other) in enumerate(zip(expected, found, strict=True)):
            assert_like(one, other, f"{place}[{index}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=0.02), place
    else:
        assert found == expected, place


def wait_for_model(name: str, port: int) -> None:
    """The service looks for new models every two seconds."""
    for _ in range(40):
        if httpx.get(f"http://127.0.0.1:{port}/models/{name}").status_code == 200:
            return
        time.sleep(0.5)
    raise AssertionError(f"{name} is not served after 20 seconds")


@pytest.fixture(scope="module")
def reader(digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """A folder where README's commands can be typed, with the service running on a port of its own."""
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(digits.models, folder / "models")
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "docs").symlink_to(ROOT / "docs")
    for name, block in zip(("wine.toml", "forest.toml"), blocks("toml"), strict=True):
        (folder / name).write_text(block)
    port = free_port()
    with serving(folder / "models", port):
        yield folder, port


@pytest.mark.parametrize("exchange", exchanges(), ids=lambda exchange: exchange.command[:60])
def test_a_console_block_answers_as_it_says(exchange: Exchange, reader: tuple[Path, int], tmp_path: Path):
    """Each command of a console block succeeds, in order, and JSON comes back as shown."""
    folder, port = reader
    command = exchange.command.replace("localhost:8000", f"127.0.0.1:{port}")
    if "-m trainer" in command:
        command += f" --runs-dir {tmp_path}"
    environment = {"PATH": "/usr/bin:/bin:/usr/local/bin", "PYTHONPATH": str(ROOT)}
    for name in re.findall(r"(?:wine|forest)-student", command):
        wait_for_model(name, port)
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    if exchange.expected:
        assert_like(json.loads(exchange.expected), json.loads(done.stdout))


def test_every_make_target_in_the_readme_exists():
    """`make run` and `make test` are targets of the Makefile, and make help lists them."""
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in set(re.findall(r"^make ([a-z]+)", "\n".join(blocks("sh")), flags=re.M)):
        assert re.search(rf"^  make {target} ", listed, flags=re.M), target


MAINS = {"service": service_main, "trainer": trainer_main}


def test_every_command_line_in_the_readme_parses(monkeypatch: pytest.MonkeyPatch):
    """`python -m trainer …` and `python -m service …` in the sh blocks are valid up to --help."""
    lines = [line.split("#")[0].split() for block in blocks("sh") for line in block.splitlines()]
    commands = [line[1:] for line in lines if line and line[0] == ".venv/bin/python" and line[2] in MAINS]
    assert commands
    monkeypatch.setattr("signal.signal", lambda *_: None)  # a command takes the process's signals
    for command in commands:
        arguments = [*command[2:], *([] if "--help" in command else ["--help"])]
        with pytest.raises(SystemExit) as ended:
            MAINS[command[1]](arguments)
        assert ended.value.code == 0, command


@pytest.mark.parametrize("table", [Recipe, EnsembleTable, StudentTable, SpecialistsTable])
def test_every_key_of_a_recipe_is_in_the_readme(table: type[BaseModel]):
    """A user finds each key, whatever table it is in."""
    assert [key for key in table.model_fields if f"`{key}`" not in README] == []


def test_every_recipe_that_ships_is_in_the_readme():
    """README names each."""
    assert [name for name in shipped() if f"`{name}`" not in README] == []


def test_every_setting_is_in_the_readme():
    """Each flag of the service with its variable."""
    names = [field.name for field in fields(Settings)]
    assert [name for name in names if f"`--{name.replace('_', '-')}`" not in README] == []
    assert [name for name in names if f"`STILLROOM_{name.upper()}`" not in README] == []


def test_every_route_is_in_the_readme(tmp_path: Path):
    """Each path of the OpenAPI description; those of a named version are told at once."""
    paths = create_app(Settings(models_dir=tmp_path)).openapi()["paths"]
    plain = {path.replace("/versions/{version}", "") for path in paths}
    assert sorted(path for path in plain if path not in README) == []
    assert "/v2/models/{name}/versions/{version}" in README


def test_the_readmes_own_recipe_is_short():
    """A stranger's recipe has under 15 lines."""
    assert len(blocks("toml")[0].splitlines()) < 15


def test_every_link_to_a_file_leads_somewhere():
    """Relative links of the documents exist."""
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?://)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
