"""A real tritonserver loads what the trainer publishes as it is, and answers as the service does.

TRITON_DIR is an environment with NVIDIA's own build of Triton 2.51, which PyTriton's wheel holds (55 MB; no GPU):

    python3.11 -m venv DIR
    DIR/bin/pip install --no-deps nvidia-pytriton==0.7.0 && DIR/bin/pip install "numpy<2" onnxruntime

It has no onnxruntime backend in C++; tests/triton/ stands in for that. Everything else is Triton's: how the repository
and config.pbtxt are read, what is refused, the batching, HTTP.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest
import tritonclient.http as triton

from tests.repositories import examples, write_model, write_pair
from tests.served import ROOT, free_port, serving
from trainer.publish import triton_config

TRITON_DIR = os.environ.get("TRITON_DIR")
NAMES = ("digits-ensemble", "digits-student")
INPUTS, _ = examples(5)
CHOSEN_BY_TRITON = {"instance_group", "optimization", "runtime", "dynamic_batching", "model_transaction_policy"}
"""Fields in which it says how it serves, not what."""


class Both(NamedTuple):
    """Triton and the service over the same models: their URLs, and the folder."""

    triton: httpx.Client
    ours: httpx.Client
    models: Path


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """A student in two versions and its ensemble."""
    if TRITON_DIR is None:
        pytest.skip("needs Triton: set TRITON_DIR to an environment of it; tests/test_triton.py says how to make it")
    folder = tmp_path_factory.mktemp("triton")
    models = folder / "models"
    write_pair(models)
    write_model(models, "digits-student", 2, seed=2)
    for name in NAMES:
        (models / name / "config.pbtxt").write_text(triton_config(name, (8, 8), 10))
    with (
        tritonserver(Path(TRITON_DIR), folder / "backends", models) as theirs,
        serving(models, free_port(), "--reload-s", "0.2") as ours,
    ):
        yield Both(theirs, ours, models)


@contextmanager
def tritonserver(environment: Path, backends: Path, models: Path) -> Iterator[httpx.Client]:
    """Ready, with every model loaded: it would not be, had one been refused."""
    (packages,) = environment.glob("lib/python*/site-packages")
    version = packages.parent.name.removeprefix("python")
    server = packages / "pytriton" / "tritonserver"
    shutil.copytree(server / "backends" / "python", backends / "python")
    shutil.copytree(ROOT / "tests" / "triton" / "onnxruntime", backends / "onnxruntime")
    stub = backends / "python" / "triton_python_backend_stub"
    shutil.copy(server / "python_backend_stubs" / version / stub.name, stub)
    stub.chmod(0o755)
    libraries = [packages / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR")]
    variables = {"LD_LIBRARY_PATH": ":".join(map(str, libraries)), "PYTHONPATH": str(packages)}
    variables["PATH"] = f"{environment / 'bin'}:{os.environ['PATH']}"
    port = free_port()
    options = [f"--model-repository={models}", f"--backend-directory={backends}", f"--http-port={port}"]
    options += ["--http-address=127.0.0.1", "--allow-grpc=false", "--allow-metrics=false"]
    options += ["--model-control-mode=poll", "--repository-poll-secs=1"]
    log = backends / "log.txt"
    with log.open("w") as written:
        process = subprocess.Popen(
            [server / "bin" / "tritonserver", *options],
            env={**os.environ, **variables},
            stdout=written,
            stderr=written,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            for _ in range(600):
                assert process.poll() is None, log.read_text()[-3000:]
                with suppress(httpx.TransportError):
                    if client.get("/v2/health/ready").status_code == 200:
                        break
                time.sleep(0.1)
            yield client
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.mark.parametrize("path", ["digits-ensemble", "digits-student", "digits-student/versions/2"])
def test_the_metadata_are_the_same(path: str, both: Both):
    """Names, types and shapes; the platform, which config.pbtxt leaves to Triton; the versions."""
    theirs, ours = (client.get(f"/v2/models/{path}").json() for client in (both.triton, both.ours))
    assert theirs == ours


@pytest.mark.parametrize("name", NAMES)
def test_the_configuration_is_the_same_where_it_says_what_is_served(name: str, both: Both):
    """Triton fills in what we leave to it."""
    theirs, ours = (client.get(f"/v2/models/{name}/config").json() for client in (both.triton, both.ours))
    for field in ours.keys() - CHOSEN_BY_TRITON:
        assert shared(theirs[field], ours[field]) == ours[field], field


def shared(theirs: Any, ours: Any) -> Any:
    """Theirs, as far as ours has it."""
    if isinstance(ours, dict):
        return {key: shared(theirs[key], ours[key]) for key in ours}
    if isinstance(ours, list) and len(ours) == len(theirs):
        return [shared(one, other) for one, other in zip(theirs, ours, strict=True)]
    return theirs


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("asked", ["digits-ensemble", "digits-student", "digits-student/1"])
def test_the_answers_are_the_same(asked: str, binary: bool, both: Both):
    """Numbers, id, model and version; without a version it is the highest, here the newest too."""
    theirs, ours = (answered(client, asked, binary) for client in (both.triton, both.ours))
    for output in ("probabilities", "logits"):
        np.testing.assert_allclose(theirs.as_numpy(output), ours.as_numpy(output), atol=1e-6)
    for field in ("id", "model_name", "model_version"):
        assert theirs.get_response()[field] == ours.get_response()[field]


@pytest.mark.parametrize("binary", [False, True])
def test_the_best_classes_are_the_same(binary: bool, both: Both):
    """With their names from labels.txt."""
    theirs, ours = (
        answered(client, "digits-student", binary, class_count=3).as_numpy("probabilities").astype(str).ravel()
        for client in (both.triton, both.ours)
    )
    for one, other in zip(theirs, ours, strict=True):
        (mass, label), (our_mass, our_label) = one.split(":", 1), other.split(":", 1)
        assert label == our_label
        assert float(mass) == pytest.approx(float(our_mass), abs=1e-6)


def answered(client: httpx.Client, asked: str, binary: bool, **options: Any) -> triton.InferResult:
    name, _, version = asked.partition("/")
    tensor = triton.InferInput("input", list(INPUTS.shape), "FP32")
    tensor.set_data_from_numpy(INPUTS, binary_data=binary)
    outputs = [triton.InferRequestedOutput(o, binary_data=binary, **options) for o in ("probabilities", "logits")]
    with triton.InferenceServerClient(client.base_url.netloc.decode()) as asking:
        return asking.infer(name, [tensor], version, outputs, request_id="7")


def test_a_new_version_is_found_by_both(both: Both):
    """By its rename alone."""
    write_model(both.models, "digits-ensemble", 2, role="ensemble", seed=3)
    end = time.monotonic() + 30
    for client in (both.triton, both.ours):
        while client.get("/v2/models/digits-ensemble").json()["versions"] != ["1", "2"]:
            assert time.monotonic() < end
            time.sleep(0.1)
