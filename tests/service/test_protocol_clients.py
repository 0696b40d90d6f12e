"""/v2 as Triton's own Python clients see it, sync and async, against a real process of the service."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tritonclient
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from google.protobuf import json_format, text_format

from tests.repositories import examples, known_logits, known_probabilities, write_pair
from tests.served import free_port, serving
from trainer.publish import triton_config

INPUTS, _ = examples(5)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a service over an ensemble and its student."""
    models = tmp_path_factory.mktemp("models")
    write_pair(models)
    port = free_port()
    with serving(models, port):
        yield f"127.0.0.1:{port}"


@pytest.fixture
def client(address: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(address) as client:
        yield client


def asked(binary: bool, outputs_binary: bool = True, **options: Any) -> tuple[list, list]:
    """The inputs and outputs of a request."""
    given = triton.InferInput("input", list(INPUTS.shape), "FP32")
    given.set_data_from_numpy(INPUTS, binary_data=binary)
    outputs = [
        triton.InferRequestedOutput(name, binary_data=outputs_binary, **options) for name in ("probabilities", "logits")
    ]
    return [given], outputs


def check(result: Any) -> None:
    np.testing.assert_allclose(result.as_numpy("probabilities"), known_probabilities(INPUTS, seed=1), atol=1e-6)
    np.testing.assert_allclose(result.as_numpy("logits"), known_logits(INPUTS, seed=1), atol=1e-5)


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("outputs_binary", [False, True])
def test_the_sync_client_gets_what_numpy_computes(binary: bool, outputs_binary: bool, client: Any):
    """In JSON and binary, both ways."""
    inputs, outputs = asked(binary, outputs_binary)
    result = client.infer("digits-student", inputs, outputs=outputs, request_id="7")
    check(result)
    assert result.get_response()["id"] == "7"


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [False, True])
def test_the_sync_client_packs_and_unpacks(coding: str, binary: bool, client: Any):
    """Both codings, both ways."""
    inputs, outputs = asked(binary)
    packed = {"request_compression_algorithm": coding, "response_compression_algorithm": coding}
    check(client.infer("digits-student", inputs, outputs=outputs, **packed))


def test_many_at_once_get_their_own_answers(address: str):
    """async_infer of the sync client."""
    with triton.InferenceServerClient(address, concurrency=4) as client:
        inputs, outputs = asked(binary=True)
        for waiting in [client.async_infer("digits-student", inputs, outputs=outputs) for _ in range(12)]:
            check(waiting.get_result())


async def test_the_async_client_gets_what_numpy_computes(address: str):
    """A version by name; packed too."""
    async with triton_aio.InferenceServerClient(address) as client:
        assert await client.is_server_ready()
        inputs, outputs = asked(binary=True)
        check(await client.infer("digits-student", inputs, model_version="1", outputs=outputs))
        packed = {"request_compression_algorithm": "gzip", "response_compression_algorithm": "deflate"}
        check(await client.infer("digits-student", inputs, outputs=outputs, **packed))


def test_no_output_asked_for_is_all_of_them(client: Any):
    """As in Triton."""
    check(client.infer("digits-student", asked(binary=True)[0]))


def test_classes_come_as_strings(client: Any):
    """`value:index:label`."""
    inputs, outputs = asked(binary=True, class_count=3)
    found = client.infer("digits-student", inputs, outputs=outputs).as_numpy("probabilities")
    assert found.shape == (5, 3)
    best = known_probabilities(INPUTS, seed=1).argmax(axis=1)
    assert [row[0].decode().split(":")[2] for row in found] == [str(label) for label in best]


def test_everything_else_that_the_client_asks(client: Any):
    """Health, metadata, configuration, statistics, the index; loading is off."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits-student", "1")
    assert not client.is_model_ready("nobody")
    assert client.get_server_metadata()["name"] == "stillroom"
    assert client.get_model_metadata("digits-student", "1")["inputs"][0]["shape"] == [-1, 8, 8]
    assert client.get_model_config("digits-student")["input"][0]["dims"] == [8, 8]
    client.infer("digits-ensemble", asked(binary=True)[0])
    statistics = client.get_inference_statistics("digits-ensemble", "1")["model_stats"][0]
    assert statistics["inference_count"] == 5
    assert len(client.get_inference_statistics()["model_stats"]) == 2
    assert [entry["state"] for entry in client.get_model_repository_index()] == ["READY", "READY"]
    for change in (client.load_model, client.unload_model):
        with pytest.raises(triton.InferenceServerException, match="--model-control true"):
            change("digits-student")
    with pytest.raises(triton.InferenceServerException, match="unknown model 'nobody'") as error:
        client.infer("nobody", asked(binary=True)[0])
    assert error.value.status() == "404"


def model_config() -> ModuleType:
    """tritonclient's protobuf of a configuration, without its gRPC."""
    path = Path(tritonclient.__path__[0]) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_published_and_what_is_answered_is_one_configuration(client: Any):
    """config.pbtxt parses as Triton would; names, types and shapes are those of /v2."""
    kind = model_config().ModelConfig
    published = text_format.Parse(triton_config("digits-student", (8, 8), 10), kind())
    answered = json_format.ParseDict(client.get_model_config("digits-student"), kind())
    assert published.backend == answered.backend == "onnxruntime"
    for own, other in zip((*published.input, *published.output), (*answered.input, *answered.output), strict=True):
        assert (own.name, own.data_type, list(own.dims)) == (other.name, other.data_type, list(other.dims))
    assert [o.label_filename for o in published.output] == [o.label_filename for o in answered.output]
    metadata = client.get_model_metadata("digits-student")
    shapes = [[-1, *tensor.dims] for tensor in (*published.input, *published.output)]
    assert shapes == [tensor["shape"] for tensor in (*metadata["inputs"], *metadata["outputs"])]
    assert published.max_batch_size == answered.max_batch_size == 1024
    assert published.version_policy.HasField("all")
