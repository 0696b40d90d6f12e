"""What several test files share: one real run of the digits recipe, and a browser."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the trainer does, before anything loads PyTorch

import pytest

from tests.served import Digits, digits_in, train_digits

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.page import Visit


@pytest.fixture(scope="session", autouse=True)
def _own_folder_for_temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Comparisons wait for one another by a file there, and test files run side by side. Its name is short, as sockets
    are made in it too."""
    tmp_path_factory.getbasetemp()  # which stays where it is
    with (
        tempfile.TemporaryDirectory(prefix="sr-", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("TMPDIR", folder)
        patch.setattr("tempfile.tempdir", folder)
        yield


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    """The digits recipe, trained and published once for the whole session; nobody may change what is there.

    Where test files run side by side, each process has a session of its own: the first one trains, the others wait.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "digits"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return digits_in(folder) or train_digits(folder)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """For the page's tests; a file may have another."""
    from tests.page import chromium  # not above: other tests need no browser

    with chromium() as opened:
        yield opened


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Opens an address in a context of its own."""
    from tests.page import visits

    with visits(browser) as opened:
        yield opened
