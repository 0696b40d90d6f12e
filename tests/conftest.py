"""What several test files share: one real run of the digits recipe."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the trainer does, before anything loads PyTorch

import pytest

from tests.served import Digits, train_digits


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    """The digits recipe, trained and published once for the whole session."""
    return train_digits(tmp_path_factory.mktemp("digits"))
