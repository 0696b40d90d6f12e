"""The user's own table, CSV or Parquet: one example a row, its label in one column, a feature in every other."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv, parquet

from trainer.data.split import PARTS, Shares, Split, make_split, stratified
from trainer.errors import DataError

KINDS = {".csv": "CSV file with a header", ".parquet": "Parquet file"}
SPLIT = "split"
CODES: dict[object, int] = {**{code: code for code in range(len(PARTS))}, **{name: c for c, name in enumerate(PARTS)}}


def load_table(path: Path, label: str, shares: Shares) -> Split:
    """Reads classes from the column `label`, and inputs float32 [N, D], in raw units, from the D others in their order.

    Labels are integers, text or booleans; the classes are the distinct ones, sorted, as text. A column `split` of 0, 1,
    2 or train, validation, test is no feature but the split, which is otherwise made by seed and stratified.
    Raises DataError.
    """
    table = read_table(path)
    if label not in table.column_names:
        raise DataError(
            f"{path}: no column {label!r}, expected the labels there, or their column's name as `label` in the recipe; "
            f"columns: {listed(table.column_names)}"
        )
    names = _features(table.column_names, label)
    if not names:
        raise DataError(f"{path}: no features, expected columns of numbers besides {listed(table.column_names)}")
    inputs = numbers(path, table, names)
    classes, labels = _classes(path, label, table[label])
    given = SPLIT in table.column_names and label != SPLIT
    part_N = _given_split(path, table[SPLIT]) if given else stratified(path.name, labels, shares)
    return make_split(path.stem, inputs, labels, classes, None, part_N)


def feature_names(path: Path, label: str) -> list[str]:
    """The names of the D features of that table, in its order; it reads no more than the header of a Parquet file."""
    with _opened(path) as file:
        names = csv.open_csv(file).schema.names if path.suffix == ".csv" else parquet.read_schema(file).names
    return _features(names, label)


def read_table(path: Path) -> pa.Table:
    """The whole table, with at least one row, every column under a name of its own. Raises DataError."""
    with _opened(path) as file:
        table = _read_csv(file) if path.suffix == ".csv" else parquet.ParquetFile(file).read()
        table.validate(full=True)  # text that is no UTF-8, too
        names = table.column_names
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{path}: two columns have the name {listed(twice)}; columns: {listed(names)}")
    for number, name in enumerate(names, start=1):
        # A row's number as a feature gives the label away where the rows are sorted by it.
        if not name or name.startswith("__index_level_"):
            raise DataError(f"{path}: column {number} has no name; from pandas, write the table with index=False")
    if not table.num_rows:
        raise DataError(f"{path} holds no rows; columns: {listed(names)}")
    plain = (
        field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
        for field in table.schema
    )
    return table.cast(pa.schema(plain))


def numbers(path: Path, table: pa.Table, names: Sequence[str]) -> NDArray[np.float32]:
    """Those columns as float32 [N, D]; too large a number becomes infinity. Raises DataError: text, missing values."""
    inputs = np.empty((table.num_rows, len(names)), dtype=np.float32)
    for place, name in enumerate(names):
        column = table[name]
        if not _is_number(column.type):
            raise DataError(f"{path}: column {name!r} is of type {column.type}{_example(column)}, expected numbers")
        _check_complete(path, name, column)
        with np.errstate(over="ignore"):
            inputs[:, place] = column.to_numpy()
    return inputs


def listed(names: Sequence[object], most: int = 20) -> str:
    """Names for a message, quoted so that a blank in one is seen, and not hundreds of them."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file; what a parser raises within becomes a DataError."""
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise DataError(f"no data at {path}: expected a {KINDS[path.suffix]}") from error
    with file:
        try:
            yield file
        except Exception as error:  # Arrow's errors share no base class: some are OSError, some ValueError
            why = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(f"{path} is no {KINDS[path.suffix]}: {why}") from error


def _read_csv(file: BinaryIO) -> pa.Table:
    # Types are guessed from the first block: were there several, a later 0.5 in a column of integers would fail.
    size = min(os.fstat(file.fileno()).st_size + 1, 2**31 - 1)
    return csv.read_csv(file, read_options=csv.ReadOptions(block_size=size))


def _features(names: Sequence[str], label: str) -> list[str]:
    return [name for name in names if name not in (label, SPLIT)]


def _is_number(kind: pa.DataType) -> bool:
    """An empty column of a CSV has the type null; that its values are missing is said elsewhere."""
    types = pa.types
    return types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_null(kind)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _example(column: pa.ChunkedArray) -> str:
    """The first text in it that is no number, such as the `?` that stands for a missing value."""
    if _is_text(column.type):
        for row, value in enumerate(column.to_pylist(), start=1):
            try:
                float(value or "")
            except ValueError:
                return f", with {value!r} in row {row}"
    return ""


def _check_complete(path: Path, name: str, column: pa.ChunkedArray) -> None:
    missing = pc.is_null(column, nan_is_null=True).to_numpy()
    if _is_text(column.type):
        missing = missing | pc.equal(column, "").fill_null(True).to_numpy()
    rows = np.flatnonzero(missing)
    if len(rows):
        raise DataError(
            f"{path}: column {name!r} lacks {len(rows)} of {len(missing)} values, the first in row {rows[0] + 1} "
            f"(the first after the header is 1)"
        )


def _classes(path: Path, name: str, column: pa.ChunkedArray) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The K classes as text, and the labels [N] that index them."""
    _check_complete(path, name, column)
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_boolean(kind) or _is_text(kind)):
        raise DataError(
            f"{path}: the labels in column {name!r} are of type {kind}, expected integers, text or booleans; "
            f"a class 1.0 is written 1"
        )
    values = sorted(pc.unique(column).to_pylist())
    if len(values) > max(2, len(column) // 2):
        raise DataError(
            f"{path}: column {name!r} holds {len(values)} different labels in {len(column)} rows, expected classes "
            f"of several examples each"
        )
    labels = pc.index_in(column, value_set=pa.array(values, kind)).to_numpy().astype(np.int64)
    return tuple(str(value).lower() if value is True or value is False else str(value) for value in values), labels


def _given_split(path: Path, column: pa.ChunkedArray) -> NDArray[np.int8]:
    _check_complete(path, SPLIT, column)
    known = pa.types.is_integer(column.type) or _is_text(column.type)
    values = pc.unique(column).to_pylist() if known else [str(column.type)]
    if not known or not set(values) <= set(CODES):
        raise DataError(
            f"{path}: column {SPLIT!r} holds {listed(values, 5)}, expected 0, 1, 2 or train, validation, test; "
            f"it gives the split and is no feature"
        )
    return np.array([CODES[value] for value in column.to_pylist()], dtype=np.int8)
