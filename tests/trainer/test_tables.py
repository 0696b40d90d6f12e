"""CSV and Parquet files: what is read, and what each broken one is told."""

import re

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from trainer.data import load_data
from trainer.data.split import Shares
from trainer.data.tables import load_table
from trainer.errors import DataError
from trainer.recipe import Recipe

SHARES = Shares(0.25, 0.25, 0)
ROWS = 24


def columns(**changes) -> dict[str, list]:
    """A table of two features and three classes, with columns changed, added, or left out where None."""
    table: dict[str, list | None] = {
        "width": [row / 4 for row in range(ROWS)],
        "kind": ["b", "a", "c"] * (ROWS // 3),
        "height": list(range(ROWS)),
    }
    return {name: values for name, values in {**table, **changes}.items() if values is not None}


def csv_text(table: dict[str, list]) -> str:
    rows = zip(*table.values(), strict=True)
    return (
        "\n".join(",".join("" if cell is None else str(cell) for cell in row) for row in (tuple(table), *rows)) + "\n"
    )


@pytest.fixture(params=["csv", "parquet"])
def write(request, tmp_path):
    """Writes columns as a file of either kind and gives its path."""

    def write_it(table: dict[str, list]):
        path = tmp_path / f"things.{request.param}"
        if request.param == "csv":
            path.write_text(csv_text(table))
        else:
            parquet.write_table(pa.table(table), path)
        return path

    return write_it


def test_every_other_column_is_a_feature(write):
    """In the file's order, as float32; the classes are the labels, sorted, and every row is in one part."""
    split = load_table(write(columns()), "kind", SHARES)
    assert (split.name, split.classes, split.shape, split.image) == ("things", ("a", "b", "c"), (2,), None)
    rows = np.concatenate([part.inputs for part in (split.train, split.validation, split.test)])
    assert rows.dtype == np.float32
    assert sorted(rows.tolist()) == [[row / 4, float(row)] for row in range(ROWS)]
    for part in (split.train, split.validation, split.test):
        assert [split.classes[label] for label in part.labels] == [
            columns()["kind"][int(row[1])] for row in part.inputs
        ]


def test_integer_labels_are_sorted_as_numbers(write):
    """10 comes after 9, and a class need not start at 0."""
    split = load_table(write(columns(kind=[10, 9, 100] * (ROWS // 3))), "kind", SHARES)
    assert split.classes == ("9", "10", "100")


def test_booleans_may_be_labels_and_features(write):
    """As classes false and true, and as 0 and 1."""
    truth = [row % 2 == 0 for row in range(ROWS)]
    split = load_table(write(columns(kind=truth, height=truth)), "kind", SHARES)
    assert split.classes == ("false", "true")
    assert set(split.train.inputs[:, 1].tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("names", [("train", "validation", "test"), (0, 1, 2)])
def test_a_column_split_gives_the_split_and_is_no_feature(write, names):
    """By name or by number."""
    parts = [names[0]] * 12 + [names[1]] * 6 + [names[2]] * 6
    split = load_table(write(columns(split=parts)), "kind", SHARES)
    assert split.shape == (2,)
    assert split.train.inputs[:, 1].tolist() == list(range(12))
    assert split.test.inputs[:, 1].tolist() == list(range(18, 24))


def test_a_decimal_far_down_an_integer_column_is_read(write):
    """A CSV's types come from all of its rows, megabytes of them."""
    rows = 200_000
    path = write({"kind": ["a", "b"] * (rows // 2), "size": [1] * (rows - 1) + [0.5], "other": [123456789] * rows})
    split = load_table(path, "kind", SHARES)
    assert min(part.inputs[:, 0].min() for part in (split.train, split.validation, split.test)) == 0.5


WRONG = [
    ({"kind": None}, "no column 'kind', expected the labels there"),
    ({"kind": None}, "columns: 'width', 'height'"),
    ({"width": None, "height": None}, "no features, expected columns of numbers besides 'kind'"),
    ({"width": ["?"] + ["1"] * 23}, "column 'width' is of type string, with '?' in row 1, expected numbers"),
    ({"width": [1.0, None] + [1.0] * 22}, "column 'width' lacks 1 of 24 values, the first in row 2"),
    ({"kind": [None, "a"] + ["b"] * 22}, "column 'kind' lacks 1 of 24 values, the first in row 1"),
    ({"kind": [1.5, 2.5] * 12}, "the labels in column 'kind' are of type double, expected integers, text or booleans"),
    ({"kind": list(range(24))}, "column 'kind' holds 24 different labels in 24 rows"),
    ({"split": ["train", "tset"] * 12}, "column 'split' holds 'train', 'tset', expected 0, 1, 2 or train"),
    ({"split": [0.5] * 24}, "column 'split' holds 'double', expected 0, 1, 2"),
]


@pytest.mark.parametrize(("changes", "told"), WRONG)
def test_wrong_columns_are_told(write, changes, told):
    """Which file, which column, what it holds, what was expected."""
    path = write(columns(**changes))
    with pytest.raises(DataError) as caught:
        load_table(path, "kind", SHARES)
    assert told in str(caught.value)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is no CSV file with a header: "),
        ("kind,width\n", "holds no rows; columns: 'kind', 'width'"),
        ("kind,width,width\na,1,2\n", "two columns have the name 'width'"),
        ("kind,width\na,1\nb\n", "is no CSV file with a header: "),
        (",kind,width\n0,a,1\n", "column 1 has no name; from pandas, write the table with index=False"),
        ("kind,width\na,1e999\n" + "a,1\nb,2\n" * 9, "examples hold NaN or infinity as float32"),
    ],
)
def test_damaged_csv_files_are_told(tmp_path, text, told):
    """Each in a sentence."""
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=re.escape(told)):
        load_table(path, "kind", SHARES)


def test_a_damaged_parquet_file_is_told(tmp_path):
    """Half a file."""
    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table(columns()), path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="is no Parquet file: "):
        load_table(path, "kind", SHARES)


def test_a_missing_file_is_told(tmp_path):
    """With what was expected there."""
    with pytest.raises(DataError, match=r"no data at .*gone\.csv: expected a CSV file with a header"):
        load_table(tmp_path / "gone.csv", "kind", SHARES)


def test_a_recipe_names_the_table_and_its_label(write):
    """`data` and `label`."""
    path = write(columns())
    split = load_data(Recipe(name="t", data=path.name, label="kind"), path.parent, None)
    assert split.classes == ("a", "b", "c")
