"""service/body.py: rows as JSON gives them become float32 of the model's shape, or an error that names the first wrong
one; a body over the limit is refused and the service goes on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.body import parse_inputs
from service.errors import InputError
from service.manifest import Manifest, read_manifest
from tests.repositories import serving, write_model


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Of a model that takes [2, 3]."""
    return read_manifest(write_model(tmp_path_factory.mktemp("models"), shape=(2, 3)))


ROW = [[1, 2, 3], [4, 5, 6.5]]
FLAT = [1, 2, 3, 4, 5, 6.5]


@pytest.mark.parametrize("rows", [[ROW], [FLAT], [ROW, FLAT], [FLAT] * 4])
def test_rows_are_nested_or_flat(rows: list, manifest: Manifest):
    """Both mean the same."""
    inputs = parse_inputs(rows, manifest, 4)
    assert inputs.dtype == np.float32
    np.testing.assert_array_equal(inputs, np.array([ROW] * len(rows), dtype=np.float32))


def test_a_model_whose_rows_are_flat_has_one_way_to_write_them(tmp_path: Path):
    """And its error names one shape."""
    flat = read_manifest(write_model(tmp_path, shape=(3,)))
    np.testing.assert_array_equal(parse_inputs([[1, 2, 3]], flat, 1), np.array([[1, 2, 3]], dtype=np.float32))
    with pytest.raises(InputError, match=r"^inputs: row 0 has shape \[2\], expected shape \[3\]$"):
        parse_inputs([[1, 2]], flat, 1)


WRAP = "; to send one example, wrap it in a list"


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        (None, "inputs: got null, expected a list of rows, each of shape [2, 3] or [6]"),
        ("1,2", "inputs: got a string, expected a list of rows, each of shape [2, 3] or [6]"),
        ({"a": 1}, "inputs: got an object, expected a list of rows, each of shape [2, 3] or [6]"),
        (True, "inputs: got a boolean, expected a list of rows, each of shape [2, 3] or [6]"),
        ([], "inputs: got 0 rows, expected 1 to 4"),
        ([FLAT] * 5, "inputs: got 5 rows, expected 1 to 4"),
        (FLAT, f"inputs: row 0 is a number, expected shape [2, 3] or [6]{WRAP}"),
        (ROW, f"inputs: row 0 has shape [3], expected shape [2, 3] or [6]{WRAP}"),
        ([1, 2], "inputs: row 0 is a number, expected shape [2, 3] or [6]"),
        ([FLAT, FLAT[:5]], "inputs: row 1 has shape [5], expected shape [2, 3] or [6]"),
        ([[]], "inputs: row 0 has shape [0], expected shape [2, 3] or [6]"),
        ([[ROW]], "inputs: row 0 has shape [1, 2, 3], expected shape [2, 3] or [6]"),
        (
            [ROW, [[1, 2, 3], [4, 5]]],
            "inputs: row 1 is ragged: its lists have several lengths or depths, expected shape [2, 3] or [6]",
        ),
        ([FLAT, "abcdef"], "inputs: row 1 is a string, expected shape [2, 3] or [6]"),
        ([FLAT, None], "inputs: row 1 is null, expected shape [2, 3] or [6]"),
        ([[*FLAT[:5], "7"]], "inputs: row 0 holds a string at position 5, expected a number"),
        ([[None, *FLAT[1:]]], "inputs: row 0 holds null at position 0, expected a number"),
        ([FLAT, [[1, 2, 3], [4, True, 6]]], "inputs: row 1 holds a boolean at position 4, expected a number"),
        ([[[1], *FLAT[1:]]], "inputs: row 0 holds a list at position 0, expected a number"),
        ([[{}, *FLAT[1:]]], "inputs: row 0 holds an object at position 0, expected a number"),
        ([FLAT, [1, 2, 1e39, 4, 5, 6]], "inputs: row 1 holds 1e+39 at position 2, expected a finite float32"),
        ([[1, 2, -1e308, 4, 5, 6]], "inputs: row 0 holds -1e+308 at position 2, expected a finite float32"),
        ([[float("nan"), 2, 3, 4, 5, 6]], "inputs: row 0 holds nan at position 0, expected a finite float32"),
    ],
)
def test_rows_that_are_wrong_are_named(inputs: object, text: str, manifest: Manifest):
    """Which row, what it is, what it should be."""
    with pytest.raises(InputError) as caught:
        parse_inputs(inputs, manifest, 4)
    assert str(caught.value) == text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=3),
    lambda children: st.lists(children, max_size=6) | st.dictionaries(st.text(max_size=2), children, max_size=2),
)


@given(JSON)
def test_any_json_is_either_taken_or_refused(manifest: Manifest, value: object):
    """Never another exception."""
    try:
        inputs = parse_inputs(orjson.loads(orjson.dumps(value)), manifest, 4)
    except InputError:
        return
    assert inputs.shape[1:] == (2, 3)
    assert np.isfinite(inputs).all()


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    write_model(tmp_path)
    async with serving(tmp_path, max_body_bytes=1000) as client:
        yield client


@pytest.mark.parametrize(("method", "path"), [("POST", "/predict"), ("POST", "/compare"), ("GET", "/models")])
async def test_a_body_that_announces_too_much_is_refused_at_once(method: str, path: str, client: httpx.AsyncClient):
    """By every route, whether it reads bodies or not."""
    answer = await client.request(method, path, content=b" " * 1001)
    assert (answer.status_code, answer.json()) == (413, {"error": "the body has 1001 bytes, expected at most 1000"})
    assert (await client.get("/health/ready")).status_code == 200


@pytest.mark.parametrize(
    ("content_type", "head"),
    [
        ("application/json", b"{"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\ncontent-disposition: form-data; name="image"; filename="a"\r\n\r\n',
        ),
    ],
)
async def test_a_body_that_announces_nothing_is_counted(content_type: str, head: bytes, client: httpx.AsyncClient):
    """Chunked, as JSON and as a form."""

    async def chunks() -> AsyncIterator[bytes]:
        yield head
        for _ in range(10):
            yield b" " * 100

    answer = await client.post("/predict", content=chunks(), headers={"content-type": content_type})
    text = "the body has more than 1000 bytes, the most that is taken"
    assert (answer.status_code, answer.json()) == (413, {"error": text})
    assert (await client.get("/health/ready")).status_code == 200


async def test_a_body_of_just_the_limit_is_read(client: httpx.AsyncClient):
    """The limit itself is allowed, announced or counted."""
    body = json.dumps({"inputs": [[0] * 64]}).encode().ljust(1000)
    assert (await client.post("/predict", content=body)).status_code == 200

    async def counted() -> AsyncIterator[bytes]:
        yield body

    assert (await client.post("/predict", content=counted())).status_code == 200
