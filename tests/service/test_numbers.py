"""service/predict/numbers.py: the fast reading and the exact one agree on whatever the fast one takes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.body import parse_inputs
from service.errors import InputError
from service.manifest import InputSpec
from service.predict.numbers import Reader

READER = Reader()


def test_flat_rows_are_taken():
    """With the other fields beside them."""
    plain = READER.read(b'{"model": "m", "inputs": [[1, 2.5], [-3e2, 4]], "top_k": 2, "temperature": null}')
    assert plain is not None
    np.testing.assert_array_equal(plain.rows, np.array([[1, 2.5], [-300, 4]], dtype=np.float32))
    assert plain.rows.dtype == np.float32
    assert plain.fields == {"model": "m", "top_k": 2, "temperature": None}


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        "[[1]]",
        "null",
        "{}",
        ' {"inputs": [[1]]}',
        '\ufeff{"inputs": [[1]]}',
        '{"inputs": [[1]]} x',
        '{"inputs": [[1]]}\0',
        '{"inputs": []}',
        '{"inputs": [[]]}',
        '{"inputs": [1, 2]}',
        '{"inputs": {}}',
        '{"inputs": "[[1]]"}',
        '{"inputs": [[1], [2, 3]]}',
        '{"inputs": [[1, 2], 3]}',
        '{"inputs": [[[1, 2], 3], [[], 4]]}',
        '{"inputs": [[[1, 2]]]}',
        '{"inputs": [[1, true]]}',
        '{"inputs": [[1, null]]}',
        '{"inputs": [[1, "2"]]}',
        '{"inputs": [[1, {}]]}',
        '{"inputs": [[NaN]]}',
        '{"inputs": [[1e999]]}',
        '{"inputs": [[1e39]]}',
        '{"inputs": [[-1e39, 1e39]]}',
        '{"inputs": [[18446744073709551616]]}',
        '{"inputs": [[-9223372036854775809]]}',
        '{"inputs": [[01]]}',
        '{"inputs": [[1]], "inputs": [[2]]}',
        '{"model": "a", "inputs": [[1]], "model": "b"}',
        '{"inputs": [[1]], "model": "\\ud800"}',
    ],
)
def test_whatever_is_not_plainly_right_is_left_to_the_exact_reading(body: str):
    """And the reader goes on."""
    assert READER.read(body.encode()) is None
    assert READER.read(b'{"inputs": [[1]]}') is not None


numbers = st.one_of(
    st.integers(-(2**64), 2**64), st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 255), st.just(-0.0)
)
odd = st.one_of(numbers, st.booleans(), st.none(), st.text(max_size=2), st.lists(numbers, max_size=2))
rows = st.lists(st.lists(odd, max_size=4) | odd, max_size=4) | st.lists(st.lists(numbers, min_size=3, max_size=3))


@given(rows, st.dictionaries(st.sampled_from(["model", "top_k", "other"]), odd))
def test_both_readings_agree(inputs: list[Any], fields: dict[str, Any]):
    """What the fast one takes, the exact one takes too, and reads as the same numbers."""
    raw = (
        orjson.dumps({**fields, "inputs": inputs}) if _fits(inputs, fields) else json.dumps({"inputs": inputs}).encode()
    )
    plain = READER.read(raw)
    if plain is None:
        return
    size = plain.rows.shape[1]
    exact = parse_inputs(orjson.loads(raw)["inputs"], _Manifest(size), 1000)  # type: ignore[arg-type]
    np.testing.assert_array_equal(plain.rows, exact)
    read = orjson.loads(raw)
    del read["inputs"]
    assert plain.fields == read


def _fits(*values: Any) -> bool:
    try:
        orjson.dumps(values)
    except TypeError:  # orjson writes no integer beyond 64 bits
        return False
    return True


class _Manifest:
    """As much of one as the exact reading looks at."""

    def __init__(self, size: int) -> None:
        self.name = "m"
        self.input = InputSpec(shape=(size,))


def test_the_oracle_refuses_what_it_should():
    """Otherwise agreeing with it would say little."""
    with pytest.raises(InputError):
        parse_inputs([[1, True]], _Manifest(2), 10)  # type: ignore[arg-type]
