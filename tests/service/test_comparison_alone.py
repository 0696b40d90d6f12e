"""Comparisons of one user wait for one another, whichever process makes them, and whatever becomes of it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from service.__main__ import main
from service.comparison.exclusive import FILE, Exclusive, alone
from service.errors import BusyError
from tests.repositories import serving, write_pair
from tests.served import ROOT
from tests.service.test_comparison_command import PAIR, QUICK
from tests.service.test_comparison_jobs import QUICK as BODY
from tests.service.test_comparison_jobs import until

HOLDER = "import sys, time; from service.comparison.exclusive import alone; held = alone(); held.__enter__()"
BUSY = r"^another comparison is running, and two would slow each other: try again in 10 s$"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """For temporary files."""
    handler = signal.getsignal(signal.SIGTERM)
    (tmp_path / "t").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "t"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t"))
    yield tmp_path / "t"
    signal.signal(signal.SIGTERM, handler)


def test_another_process_that_compares_is_waited_for_until_it_dies():
    """However it dies."""
    command = [sys.executable, "-c", f"{HOLDER}; print(flush=True); time.sleep(60)"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        holder.stdout.readline()
        with pytest.raises(BusyError, match=BUSY), Exclusive().held():
            pass
        holder.kill()
    with Exclusive().held(), pytest.raises(BusyError, match=BUSY), alone():
        pass
    with alone():
        pass


def test_the_file_is_the_users_own(folder: Path):
    with alone():
        (file,) = folder.iterdir()
        assert file.name == FILE.format(user=os.getuid())
        assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_what_a_stranger_put_in_its_place_is_left_alone(kind: str, folder: Path, tmp_path: Path):
    """And does not keep anybody from comparing."""
    place, target = folder / FILE.format(user=os.getuid()), tmp_path / "precious"
    if kind == "link":
        place.symlink_to(target)
    elif kind == "folder":
        place.mkdir()
    else:
        os.mkfifo(place)
    with alone(), alone():
        assert not target.exists()


def test_without_a_folder_for_temporary_files_one_service_still_compares_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As where it is read-only."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with Exclusive(tmp_path / "lock").held(), pytest.raises(BusyError, match=BUSY), Exclusive(tmp_path / "lock").held():
        pass


async def test_a_comparison_of_a_service_stays_queued_meanwhile(tmp_path: Path):
    write_pair(tmp_path / "models")
    async with serving(tmp_path / "models") as client:
        with alone():
            answer = await client.post("/compare", json=BODY, headers={"Prefer": "respond-async"})
            await asyncio.sleep(0.5)
            assert (await client.get(answer.headers["location"])).json()["state"] == "queued"
        await until(client, answer.headers["location"], "done")


def test_the_command_line_says_that_it_waits(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """And compares as soon as it may."""
    write_pair(tmp_path / "models")
    held = ExitStack()
    held.enter_context(alone())
    release = threading.Timer(4.0, held.close)
    release.start()
    assert main(["compare", str(tmp_path / "models"), *PAIR, *QUICK]) == 0
    release.join()
    said = capsys.readouterr()
    assert said.err.index("waiting for another comparison on this machine to end") < said.err.index(
        "timing single rows"
    )
    assert said.out.startswith("# digits-student/1 vs digits-ensemble/1\n")
