"""One service for all hostile clients of a file: after each it answers as ever, and its memory has not grown."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.repositories import known_probabilities, write_pair
from tests.served import free_port, running
from tests.service.hostile.wire import GOOD, INPUTS, Service

MOST_BYTES = 4_000_000


GROWTH_MB = 60
"""A body, what it unpacks to, and the allocator's slack; a leak of a body a request would be a multiple."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    models = tmp_path_factory.mktemp("models")
    write_pair(models)
    options = ["--max-body-bytes", str(MOST_BYTES), "--timeout-s", "2", "--max-connections", "50", "--max-batch", "64"]
    with running(models, free_port(), *options) as started:
        started[0].post("/predict", content=GOOD)
        yield started


def megabytes(process: subprocess.Popen[str]) -> float:
    return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * 4096 / 2**20


@pytest.fixture(autouse=True)
def goes_on(service: Service) -> Iterator[None]:
    """Whatever a test did, the next good request is answered as ever, and memory has not grown."""
    client, process = service
    before = megabytes(process)
    yield
    answer = client.post("/predict", content=GOOD)
    assert answer.status_code == 200
    np.testing.assert_allclose(answer.json()["probabilities"], known_probabilities(INPUTS, seed=1), atol=1e-6)
    assert megabytes(process) < before + GROWTH_MB
