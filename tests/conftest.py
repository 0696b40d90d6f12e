"""What several test files share: one real run of the digits recipe."""

from __future__ import annotations

import fcntl
import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the trainer does, before anything loads PyTorch

import pytest

from tests.served import Digits, digits_in, train_digits


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
