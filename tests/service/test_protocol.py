"""/v2 over the real app: what its routes answer, in JSON and in binary; what is wrong is said as Triton says it."""

from __future__ import annotations

import base64
import gzip
import io
import json
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.repositories import examples, known_logits, known_probabilities, serving, write_model, write_pair

INPUTS, _ = examples(3)
INFER = "/v2/models/digits-student/infer"
LENGTH = "Inference-Header-Content-Length"


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """An ensemble of seed 0, its student of seed 1."""
    write_pair(tmp_path)
    async with serving(tmp_path, max_batch=8) as client:
        yield client


def tensor(data: Any = None, datatype: str = "FP32", shape: Any = (3, 8, 8), **more: Any) -> dict[str, Any]:
    data = INPUTS.tolist() if data is None else data
    return {"name": "input", "shape": list(shape), "datatype": datatype, "data": data, **more}


async def infer(client: httpx.AsyncClient, path: str = INFER, **body: Any) -> dict[str, Any]:
    answer = await client.post(path, json={"inputs": [tensor()]} | body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def binary(head: dict[str, Any], raw: bytes) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a request in binary."""
    text = json.dumps(head).encode()
    return text + raw, {LENGTH: str(len(text))}


def rows_behind(count: int = 3, **more: Any) -> dict[str, Any]:
    """The input's head of so many rows in binary."""
    head = tensor(shape=(count, 8, 8), parameters={"binary_data_size": count * 256}, **more)
    del head["data"]
    return head


async def test_the_answer_is_what_numpy_computes(client: httpx.AsyncClient):
    """Both outputs, flat, with names, types and shapes."""
    answer = await infer(client, id="42")
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("digits-student", "1", "42")
    probabilities, logits = answer["outputs"]
    assert probabilities | {"data": 0} == {"name": "probabilities", "datatype": "FP32", "shape": [3, 10], "data": 0}
    np.testing.assert_allclose(probabilities["data"], known_probabilities(INPUTS, seed=1).ravel(), atol=1e-6)
    np.testing.assert_allclose(logits["data"], known_logits(INPUTS, seed=1).ravel(), atol=1e-5)


async def test_parameters_that_are_other_servers_words_are_passed_over(client: httpx.AsyncClient):
    """MLServer's codecs name the type that they encode, in the request and in each input."""
    words = {"content_type": "np"}
    answer = await infer(client, inputs=[tensor(parameters=words)], parameters=words)
    np.testing.assert_allclose(answer["outputs"][0]["data"], known_probabilities(INPUTS, seed=1).ravel(), atol=1e-6)


@pytest.mark.parametrize("path", ["/v2/models/digits-ensemble/infer", "/v2/models/digits-ensemble/versions/1/infer"])
async def test_a_named_model_and_version_answers(path: str, client: httpx.AsyncClient):
    """And without an id there is none."""
    answer = await infer(client, path, outputs=[{"name": "logits"}])
    assert answer["model_name"] == "digits-ensemble"
    assert "id" not in answer
    (logits,) = answer["outputs"]
    np.testing.assert_allclose(logits["data"], known_logits(INPUTS).ravel(), atol=1e-5)


@pytest.mark.parametrize("data", [INPUTS.ravel().tolist(), INPUTS.tolist(), INPUTS.reshape(3, 64).tolist()])
@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 64)])
async def test_data_may_be_nested_in_any_way(data: list, shape: tuple, client: httpx.AsyncClient):
    """The shape alone counts; a row may be flat, as in /predict."""
    answer = await infer(client, inputs=[tensor(data, shape=shape)])
    np.testing.assert_allclose(answer["outputs"][1]["data"], known_logits(INPUTS, seed=1).ravel(), atol=1e-5)


NUMBERS = ["INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP16", "FP32", "FP64"]
DTYPES = dict(zip(NUMBERS, ["i1", "<i2", "<i4", "<i8", "u1", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8"], strict=True))


@pytest.mark.parametrize("datatype", NUMBERS)
async def test_every_type_of_number_is_taken(datatype: str, client: httpx.AsyncClient):
    """In JSON and in binary."""
    expected = known_logits(INPUTS, seed=1).ravel()
    numbers = INPUTS.astype(DTYPES[datatype])
    answer = await infer(client, inputs=[tensor(numbers.tolist(), datatype)])
    np.testing.assert_allclose(answer["outputs"][1]["data"], expected, atol=1e-5)
    head = {
        "name": "input",
        "shape": [3, 8, 8],
        "datatype": datatype,
        "parameters": {"binary_data_size": numbers.nbytes},
    }
    body, headers = binary({"inputs": [head]}, numbers.tobytes())
    answer = (await client.post(INFER, content=body, headers=headers)).json()
    np.testing.assert_allclose(answer["outputs"][1]["data"], expected, atol=1e-5)


async def test_booleans_are_0_and_1(client: httpx.AsyncClient):
    """In JSON and in binary."""
    lit = INPUTS > 8
    expected = known_logits(lit.astype(np.float32), seed=1).ravel()
    answer = await infer(client, inputs=[tensor(lit.tolist(), "BOOL")])
    np.testing.assert_allclose(answer["outputs"][1]["data"], expected, atol=1e-5)
    head = {"name": "input", "shape": [3, 8, 8], "datatype": "BOOL", "parameters": {"binary_data_size": lit.nbytes}}
    body, headers = binary({"inputs": [head]}, lit.tobytes())
    answer = (await client.post(INFER, content=body, headers=headers)).json()
    np.testing.assert_allclose(answer["outputs"][1]["data"], expected, atol=1e-5)


async def test_an_element_of_bytes_is_a_picture(client: httpx.AsyncClient):
    """As /predict reads it; base64 in JSON, which has no bytes."""
    picture = Image.fromarray((INPUTS[0] * (255 / 16)).astype(np.uint8))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    by_form = (await client.post("/predict", files={"image": buffer.getvalue()})).json()["probabilities"]
    text = base64.b64encode(buffer.getvalue()).decode()
    answer = await infer(client, inputs=[tensor([text, text], "BYTES", (2, 1))])
    np.testing.assert_allclose(np.reshape(answer["outputs"][0]["data"], (2, 10)), by_form * 2, atol=1e-6)
    element = len(buffer.getvalue()).to_bytes(4, "little") + buffer.getvalue()
    head = {"name": "input", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(element)}}
    body, headers = binary({"inputs": [head]}, element)
    answer = (await client.post(INFER, content=body, headers=headers)).json()
    np.testing.assert_allclose([answer["outputs"][0]["data"]], by_form, atol=1e-6)


@pytest.mark.parametrize(
    ("parameters", "outputs", "expected"),
    [
        ({"binary_data_output": True}, None, [True, True]),
        ({"binary_data_output": True}, [("logits", {"binary_data": False}), ("probabilities", {})], [False, True]),
        ({}, [("probabilities", {"binary_data": True}), ("logits", {})], [True, False]),
    ],
)
async def test_an_answer_in_binary(parameters: dict, outputs: Any, expected: list[bool], client: httpx.AsyncClient):
    """The JSON, then the bytes of the tensors that are not in it, in order."""
    asked = None if outputs is None else [{"name": name, "parameters": given} for name, given in outputs]
    body = {"inputs": [tensor()], "parameters": parameters, "outputs": asked}
    answer = await client.post(INFER, json=body)
    assert answer.headers["content-type"] == "application/octet-stream"
    split = int(answer.headers[LENGTH])
    raw = answer.content[split:]
    known = {"probabilities": known_probabilities(INPUTS, seed=1), "logits": known_logits(INPUTS, seed=1)}
    entries = json.loads(answer.content[:split])["outputs"]
    assert ["data" not in entry for entry in entries] == expected
    for entry in entries:
        if "data" in entry:
            found = entry["data"]
        else:
            size = entry["parameters"]["binary_data_size"]
            found, raw = np.frombuffer(raw[:size], "<f4"), raw[size:]
        np.testing.assert_allclose(found, known[entry["name"]].ravel(), atol=1e-5)
    assert raw == b""


async def test_a_raw_body_is_rows_and_is_answered_in_binary(client: httpx.AsyncClient):
    """Where the JSON's length is 0, there is none."""
    answer = await client.post(INFER, content=INPUTS.tobytes(), headers={LENGTH: "0"})
    split = int(answer.headers[LENGTH])
    logits = np.frombuffer(answer.content[split:], "<f4").reshape(2, 3, 10)[1]
    np.testing.assert_allclose(logits, known_logits(INPUTS, seed=1), atol=1e-5)


async def test_classification_gives_the_best_classes(client: httpx.AsyncClient):
    """`value:index:label`, the best first; more than there are is all of them."""
    output = {"name": "probabilities", "parameters": {"classification": 2}}
    (found,) = (await infer(client, outputs=[output]))["outputs"]
    assert (found["datatype"], found["shape"]) == ("BYTES", [3, 2])
    for row, pair in zip(known_probabilities(INPUTS, seed=1), np.reshape(found["data"], (3, 2)), strict=True):
        best = np.argsort(-row)[:2]
        for k, text in zip(best, pair, strict=True):
            value, index, label = text.split(":")
            assert (int(index), label) == (k, str(k))
            assert float(value) == pytest.approx(row[k], abs=2e-6)
    output["parameters"] = {"classification": 99, "binary_data": True}
    answer = await client.post(INFER, json={"inputs": [tensor()], "outputs": [output]})
    split = int(answer.headers[LENGTH])
    assert json.loads(answer.content[:split])["outputs"][0]["shape"] == [3, 10]
    assert int.from_bytes(answer.content[split : split + 4], "little") == len("0.123456:0:0")


async def test_nan_and_infinity_are_numbers_as_in_triton(client: httpx.AsyncClient):
    """They go into the graph, and come out as what it makes of them; other rows are not touched."""
    rows = INPUTS.tolist()
    rows[0][0][0], rows[1][0][0] = float("nan"), float("inf")
    text = json.dumps({"inputs": [tensor(rows)]})
    assert "NaN" in text
    answer = await client.post(INFER, content=text)
    assert answer.status_code == 200, answer.text
    assert "NaN" in answer.text
    found = np.reshape(json.loads(answer.text)["outputs"][1]["data"], (3, 10))
    assert np.isnan(found[0]).all()
    np.testing.assert_allclose(found[2], known_logits(INPUTS, seed=1)[2], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "pack", "unpack"), [("gzip", gzip.compress, gzip.decompress), ("deflate", zlib.compress, zlib.decompress)]
)
async def test_bodies_are_packed_both_ways(name: str, pack: Any, unpack: Any, client: httpx.AsyncClient):
    """The JSON's length is that of the JSON before it is packed, in requests and answers."""
    asked = {"classification": 10, "binary_data": True}  # of eight rows more than one packet
    outputs = [{"name": name, "parameters": asked} for name in ("logits", "probabilities")]
    body, headers = binary({"inputs": [rows_behind(8)], "outputs": outputs}, np.tile(INPUTS, (3, 1, 1))[:8].tobytes())
    plain = await client.post(INFER, content=body, headers={**headers, "Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    packed = {**headers, "Content-Encoding": name, "Accept-Encoding": f"br, {name};q=0.5"}
    async with client.stream("POST", INFER, content=pack(body), headers=packed) as answer:
        raw = b"".join([part async for part in answer.aiter_raw()])
    assert answer.headers["content-encoding"] == name
    assert unpack(raw) == plain.content
    assert answer.headers[LENGTH] == plain.headers[LENGTH]


async def test_the_server_and_a_model_say_what_they_are(client: httpx.AsyncClient):
    """With and without a slash or a version; success is exactly 200."""
    for path in ("/v2", "/v2/"):
        answer = await client.get(path)
        assert answer.status_code == 200
        assert answer.json()["name"] == "stillroom"
        assert "binary_tensor_data" in answer.json()["extensions"]
    assert (await client.get("/v2/health/live")).json() == {"live": True}
    assert (await client.get("/v2/health/ready")).json() == {"ready": True}
    assert (await client.get("/v2/models")).json() == {"models": ["digits-ensemble", "digits-student"]}
    for path in ("/v2/models/digits-student", "/v2/models/digits-student/versions/1"):
        assert (await client.get(path)).json() == {
            "name": "digits-student",
            "versions": ["1"],
            "platform": "onnxruntime_onnx",
            "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, 8, 8]}],
            "outputs": [
                {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]},
                {"name": "logits", "datatype": "FP32", "shape": [-1, 10]},
            ],
        }
        assert (await client.get(f"{path}/ready")).json() == {"name": "digits-student", "ready": True}
        config = (await client.get(f"{path}/config")).json()
        assert (config["max_batch_size"], config["input"][0]["dims"], config["output"][0]["dims"]) == (8, [8, 8], [10])


async def test_statistics_count_rows_requests_runs_and_times(client: httpx.AsyncClient):
    """Of /v2 and /predict alike: they share one path to the model."""
    await infer(client)
    await client.post("/predict", json={"model": "digits-student", "inputs": INPUTS[:1].tolist()})
    for path in ("/v2/models/digits-student/stats", "/v2/models/digits-student/versions/1/stats"):
        (found,) = (await client.get(path)).json()["model_stats"]
        assert (found["name"], found["version"]) == ("digits-student", "1")
        assert (found["inference_count"], found["execution_count"]) == (4, 2)
        assert [batch["batch_size"] for batch in found["batch_stats"]] == [1, 3]
        stats = found["inference_stats"]
        assert stats["success"]["count"] == stats["queue"]["count"] == stats["compute_infer"]["count"] == 2
        assert stats["success"]["ns"] == pytest.approx(stats["queue"]["ns"] + stats["compute_infer"]["ns"], abs=2)
        assert stats["fail"] == stats["cache_hit"] == stats["cache_miss"] == {"count": 0, "ns": 0}
        assert found["last_inference"] > 1_700_000_000_000
    both = (await client.get("/v2/models/stats")).json()["model_stats"]
    assert [entry["inference_count"] for entry in both] == [0, 4]


async def test_the_index_tells_what_is_served_and_what_not(tmp_path: Path):
    """With an empty body, as clients send it."""
    write_pair(tmp_path)
    (write_model(tmp_path, version=2) / "model.onnx").write_bytes(b"x")
    async with serving(tmp_path) as client:
        found = (await client.post("/v2/repository/index")).json()
        assert [(entry["name"], entry["version"], entry["state"]) for entry in found] == [
            ("digits-ensemble", "1", "READY"),
            ("digits-student", "1", "READY"),
            ("digits-student", "2", "UNAVAILABLE"),
        ]
        assert "does not match its manifest" in found[2]["reason"]
        ready = (await client.post("/v2/repository/index", json={"ready": True})).json()
        assert ready == found[:2]


async def test_clients_may_unload_and_load_where_it_is_enabled(tmp_path: Path):
    """An unloaded model is unknown until it is loaded; a load finds what is new."""
    write_pair(tmp_path)
    async with serving(tmp_path, model_control=True) as client:
        for _ in range(2):  # again is no error, as in Triton
            assert (await client.post("/v2/repository/models/digits-student/unload", json={})).status_code == 200
        assert (await client.get("/v2/models/digits-student/ready")).status_code == 404
        index = (await client.post("/v2/repository/index")).json()
        assert index[1] == {"name": "digits-student", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"}
        write_model(tmp_path, version=2)
        assert (await client.post("/v2/repository/models/digits-student/load")).status_code == 200
        assert (await client.get("/v2/models/digits-student")).json()["versions"] == ["1", "2"]
        assert (await client.get("/v2/models/digits-student/versions/2")).json()["versions"] == ["2"]
        for verb in ("load", "unload"):
            answer = await client.post(f"/v2/repository/models/nobody/{verb}")
            assert answer.status_code == 404
        body = {"parameters": {"file:1/model.onnx": "AAAA", "config": "{}"}}
        answer = await client.post("/v2/repository/models/digits-student/load", json=body)
        assert answer.status_code == 400
        assert (
            answer.json()["error"] == "parameters: got config, file:1/model.onnx; models come from the repository alone"
        )
        (write_model(tmp_path, "bad") / "model.onnx").write_bytes(b"x")
        answer = await client.post("/v2/repository/models/bad/load")
        assert (answer.status_code, "does not match" in answer.json()["error"]) == (500, True)


@pytest.mark.parametrize("verb", ["load", "unload"])
async def test_by_default_they_may_not(verb: str, client: httpx.AsyncClient):
    """And are told how it is enabled."""
    answer = await client.post(f"/v2/repository/models/digits-student/{verb}")
    assert (answer.status_code, "--model-control true" in answer.json()["error"]) == (403, True)


async def test_without_models_it_is_not_ready(tmp_path: Path):
    """503 and the reason."""
    async with serving(tmp_path) as client:
        answer = await client.get("/v2/health/ready")
        assert (answer.status_code, "there is no model yet" in answer.json()["error"]) == (503, True)
        assert (await client.get("/v2/health/live")).status_code == 200
