"""/v2 over the real app: what is wrong with a request is said as Triton says it, and the service goes on."""

from __future__ import annotations

import gzip
import json
from typing import Any

import httpx
import pytest

from tests.service.test_protocol import INFER, LENGTH, binary, client, infer, tensor

__all__ = ["client"]  # the fixture


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/v2/nothing", 404, "no page at /v2/nothing"),
        ("GET", INFER, 405, "does not take GET; it takes POST"),
        ("GET", "/v2/models/nobody", 404, "unknown model 'nobody'; available: digits-ensemble, digits-student"),
        ("GET", "/v2/models/digits-student/versions/9", 404, "unknown version 9 of digits-student; available: 1"),
        ("GET", "/v2/models/digits-student/versions/x", 404, "unknown version 'x' of digits-student"),
        ("GET", "/v2/models/digits-student/versions/-1/ready", 404, "unknown version '-1'"),
        ("POST", "/v2/models/nobody/infer", 404, "unknown model 'nobody'"),
        ("GET", "/v2/systemsharedmemory/status", 404, "no page"),
    ],
)
async def test_what_there_is_not_is_an_error_in_json(
    method: str, path: str, status: int, text: str, client: httpx.AsyncClient
):
    """As the clients of the protocol expect it."""
    answer = await client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]
    assert text in answer.json()["error"]


FEW = {"inputs": [tensor([1.0], shape=(1, 8, 8))]}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "inputs: got null, expected a list of one object, the input named 'input'"),
        ({"inputs": []}, "inputs: got 0 of them"),
        ({"inputs": [tensor(), tensor()]}, "inputs: got 2 of them"),
        ({"inputs": [{**tensor(), "name": "x"}]}, "inputs: got the name \"x\", expected 'input'"),
        ({"inputs": [{**tensor(), "datatype": "FP8"}]}, 'the datatype is "FP8", expected one of BOOL, UINT8'),
        ({"inputs": [{**tensor(), "datatype": ["FP32"]}]}, "the datatype is a list"),
        ({"inputs": [tensor(shape=())]}, "input: the shape is missing"),
        ({"inputs": [tensor(shape=(3, -8, -8))]}, "input: the shape is missing or is no list of whole numbers"),
        ({"inputs": [tensor(shape=(3, 8, 8.0))]}, "input: the shape is missing or is no list"),
        ({"inputs": [tensor(shape=(True, 8, 8))]}, "input: the shape is missing or is no list"),
        (
            {"inputs": [tensor(shape=(2**62, 2**62, 8))]},
            "got a shape of 3 sizes, expected at most 3, none above 2147483647",
        ),
        ({"inputs": [tensor([], shape=(0, 8, 8))]}, "input: got 0 rows, expected 1 to 8"),
        ({"inputs": [tensor([0] * 640, shape=(10, 8, 8))]}, "input: got 10 rows, expected 1 to 8"),
        (
            {"inputs": [tensor(shape=(3, 4, 16))]},
            "input: got the shape [3, 4, 16], expected [-1, 8, 8]: rows of digits",
        ),
        (FEW, "input: data holds 1 elements, expected the 64 of its shape"),
        ({"inputs": [tensor("x")]}, "input: data is str, expected a list"),
        ({"inputs": [tensor(["1"] * 192)]}, "input: data holds str at position 0, expected a number"),
        ({"inputs": [tensor([True] * 192)]}, "input: data holds bool at position 0, expected a number"),
        ({"inputs": [tensor([[1], 2], shape=(2,))]}, "input: data mixes lists with other values"),
        ({"inputs": [tensor([0.5] * 192, "INT8")]}, "input: data holds float at position 0, expected a whole number"),
        ({"inputs": [tensor([200] * 192, "INT8")]}, "numbers from 200 to 200, more than INT8 can hold"),
        ({"inputs": [tensor([1] * 192, "BOOL")]}, "expected true or false"),
        ({"inputs": [tensor(["!"], "BYTES", (1,))]}, "input: an element of BYTES is no base64"),
        ({"inputs": [tensor(["AAAA"], "BYTES", (1,))]}, "that are no picture"),
        ({"inputs": [tensor(["AAAA"], "BYTES", (1, 1, 1))]}, "of BYTES, expected [N] or [N, 1]"),
        ({"inputs": [tensor(parameters={"binary_data_size": 4})]}, "binary_data_size is 4, and data too, expected 0"),
        ({"inputs": [tensor(parameters=[])]}, "input: parameters: got a list, expected an object"),
        ({"inputs": [tensor()], "outputs": "x"}, "outputs: got a string, expected a list of objects"),
        ({"inputs": [tensor()], "outputs": [{"name": "x"}]}, 'outputs: got the name "x", expected probabilities or'),
        (
            {"inputs": [tensor()], "outputs": [{"name": "logits", "parameters": {"classification": -1}}]},
            "logits: classification is -1",
        ),
        ({"inputs": [tensor()], "parameters": {"binary_data_output": 1}}, "binary_data_output: got a number"),
        ({"inputs": [tensor()], "id": 4}, "id is a number, expected a string"),
    ],
)
async def test_a_wrong_request_is_told(body: dict[str, Any], text: str, client: httpx.AsyncClient):
    """Always 400, and the service goes on."""
    answer = await client.post(INFER, json=body)
    assert answer.status_code == 400, answer.text
    assert text in answer.json()["error"]
    await infer(client)


@pytest.mark.parametrize("length", ["-1", "+1", "1.0", "x", "", " ", "99999", "1" * 50, "٣", "0x10", "1 2"])
async def test_an_illegal_length_of_the_json_is_told(length: str, client: httpx.AsyncClient):
    """Whatever it is."""
    answer = await client.post(INFER, content=b"{}", headers={LENGTH.encode(): length.encode()})
    assert answer.status_code == 400
    assert "expected the length of the JSON, 0 to 2" in answer.json()["error"]


@pytest.mark.parametrize(
    ("size", "raw", "text"),
    [
        (768, b"\0" * 767, "binary_data_size is 768, expected 767"),
        (767, b"\0" * 767, "got 767 bytes, expected 768: 192 elements of FP32"),
        (-1, b"\0" * 768, "binary_data_size is -1"),
        (2**70, b"\0" * 768, "expected 768: the bytes that follow"),
        ("768", b"\0" * 768, 'binary_data_size is "768"'),
        (True, b"\0", "binary_data_size is true"),
        (None, b"\0" * 768, "768 bytes follow the JSON, but the input has no binary_data_size"),
    ],
)
async def test_a_lie_about_the_bytes_is_told(size: Any, raw: bytes, text: str, client: httpx.AsyncClient):
    """Nothing is read beyond what there is."""
    head = {"name": "input", "shape": [3, 8, 8], "datatype": "FP32", "parameters": {"binary_data_size": size}}
    body, headers = binary({"inputs": [head]}, raw)
    answer = await client.post(INFER, content=body, headers=headers)
    assert (answer.status_code, text in answer.json()["error"]) == (400, True), answer.text


@pytest.mark.parametrize("raw", [b"\xff\xff\xff\xff", b"\x01\0\0\0", b"\0\0\0\0" * 2, b"", b"\x01\0", b"\0\0\0\0x"])
async def test_damaged_elements_of_bytes_are_told(raw: bytes, client: httpx.AsyncClient):
    """Lengths that lie, too few, too many."""
    head = {"name": "input", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}
    body, headers = binary({"inputs": [head]}, raw)
    answer = await client.post(INFER, content=body, headers=headers)
    assert (answer.status_code, "BYTES" in answer.json()["error"]) == (400, True), answer.text


@pytest.mark.parametrize(
    ("body", "headers", "status", "text"),
    [
        (b"", {}, 400, "the request is not JSON"),
        (b"[NaN]", {}, 400, "the request is a list"),
        (b"{", {}, 400, "the request is not JSON"),
        (b"[" * 250_000, {}, 400, "the request is not JSON"),
        (b"[" * 250_000 + b"NaN", {}, 400, "the request is not JSON"),
        (b"x", {"Content-Encoding": "br"}, 415, "Content-Encoding: got 'br', expected gzip or deflate"),
        (b"x", {"Content-Encoding": "gzip"}, 400, "the body is not gzip"),
        (gzip.compress(b"{}", mtime=0)[:-3], {"Content-Encoding": "gzip"}, 400, "the body is not gzip"),
        (b"x", {"Content-Encoding": "deflate"}, 400, "the body is not deflate"),
        (b"\0" * 100, {LENGTH: "0"}, 400, "got 100 raw bytes, expected rows of 256 bytes"),
        (b"\0" * 256 * 9, {LENGTH: "0"}, 400, "got 9 rows, expected 1 to 8"),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused(
    body: bytes, headers: dict[str, str], status: int, text: str, client: httpx.AsyncClient
):
    """With the reason."""
    answer = await client.post(INFER, content=body, headers=headers)
    assert (answer.status_code, text in answer.json()["error"]) == (status, True), answer.text


async def test_of_two_keys_of_one_name_the_last_counts(client: httpx.AsyncClient):
    """As in every JSON library here."""
    text = json.dumps({"inputs": [tensor()]})[1:]
    answer = await client.post(INFER, content='{"inputs": 1, ' + text)
    assert answer.status_code == 200
