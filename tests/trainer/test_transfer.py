"""The transfer set: inputs of the same kind as the data, none of them held out."""

import re

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from trainer.data import load_data, load_transfer
from trainer.errors import DataError
from trainer.recipe import Recipe

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal(size=(24, 2)).astype(np.float32)
PIXELS = RANDOM.integers(0, 256, (24, 3, 4), dtype=np.uint8)
LABELS = np.arange(24) % 3


def features(folder, transfer: str) -> np.ndarray:
    """Loads `transfer` beside features in an .npz file."""
    np.savez(folder / "data.npz", inputs=FEATURES, labels=LABELS)
    return _load(folder, Recipe(name="t", data="data.npz", transfer=transfer))


def images(folder, transfer: str) -> np.ndarray:
    """Loads `transfer` beside images in an .npz file."""
    np.savez(folder / "data.npz", inputs=PIXELS, labels=LABELS)
    return _load(folder, Recipe(name="t", data="data.npz", transfer=transfer))


def _load(folder, recipe: Recipe) -> np.ndarray:
    return load_transfer(recipe, folder, None, load_data(recipe, folder, None)).inputs


@pytest.mark.parametrize("name", ["inputs", "images"])
def test_arrays_are_read_and_their_labels_are_not_looked_at(tmp_path, name):
    """`inputs`, or `images` as public sets have it; labels may be anything."""
    np.savez(tmp_path / "more.npz", **{name: FEATURES + 1, "labels": np.array(["?"])})
    np.testing.assert_array_equal(features(tmp_path, "more.npz"), FEATURES + 1)


def test_a_recipe_without_one_has_an_empty_one(tmp_path):
    """[0, ...]."""
    np.savez(tmp_path / "data.npz", inputs=FEATURES, labels=LABELS)
    assert _load(tmp_path, Recipe(name="t", data="data.npz")).shape == (0, 2)


def test_a_tables_features_are_found_by_name(tmp_path):
    """In whatever order; a label column is not looked at."""
    table = {"a": FEATURES[:, 0], "kind": ["x", "y", "z"] * 8, "b": FEATURES[:, 1]}
    parquet.write_table(pa.table(table), tmp_path / "data.parquet")
    (tmp_path / "more.csv").write_text("b,kind,a\n1,,2\n3,,4\n")
    found = _load(tmp_path, Recipe(name="t", data="data.parquet", label="kind", transfer="more.csv"))
    assert found.tolist() == [[2.0, 1.0], [4.0, 3.0]]


def test_a_tables_other_columns_are_told(tmp_path):
    """What is lacking, what is too much, and what is expected."""
    (tmp_path / "data.csv").write_text("a,b,label\n" + "1,2,x\n3,4,y\n" * 6)
    (tmp_path / "more.csv").write_text("a,c\n1,2\n")
    with pytest.raises(DataError, match=r"lacks 'b' and has 'c' besides; expected the features of .*: 'a', 'b'"):
        _load(tmp_path, Recipe(name="t", data="data.csv", transfer="more.csv"))


def test_a_folder_of_images_is_read(tmp_path):
    """Side by side, by name, at the size of the data."""
    (tmp_path / "more").mkdir()
    for name, value in (("b.png", 200), ("a.png", 100)):
        Image.fromarray(np.full((3, 4), value, dtype=np.uint8)).save(tmp_path / "more" / name)
    found = images(tmp_path, "more")
    assert (found.dtype, found.shape, found[:, 0, 0].tolist()) == (np.uint8, (2, 3, 4), [100, 200])


def test_a_folder_of_folders_is_refused(tmp_path):
    """A transfer set has no classes."""
    (tmp_path / "more" / "cats").mkdir(parents=True)
    with pytest.raises(DataError, match="more holds the folders 'cats'; expected PNG or JPEG images side by side"):
        images(tmp_path, "more")
    with pytest.raises(DataError, match="a folder of images goes with images; the data hold"):
        features(tmp_path, "more")


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"inputs": FEATURES[:, :1]}, "inputs have shape [24, 1], expected [U, 2]"),
        ({"inputs": FEATURES[:0]}, "inputs have shape [0, 2], expected [U, 2], U at least 1"),
        ({"inputs": np.full((3, 2), np.nan)}, "3 inputs hold NaN or infinity as float32, the first is number 0"),
        ({"inputs": np.array([["a", "b"]])}, "inputs are of type <U1, expected numbers"),
        ({"inputs": np.ones((3, 2), np.uint8)}, "inputs are of type uint8, the data's of type float32"),
        ({"outputs": FEATURES}, "holds outputs; expected inputs or images"),
        ({"inputs": FEATURES, "images": FEATURES}, "holds inputs, images; expected inputs or images"),
    ],
)
def test_a_set_of_another_kind_is_told(tmp_path, arrays, told):
    """Shape, type, values, and what is held out."""
    np.savez(tmp_path / "more.npz", **arrays)
    with pytest.raises(DataError, match=re.escape(told)):
        features(tmp_path, "more.npz")


def test_held_out_examples_are_left_out_and_counted(tmp_path):
    """Training examples may be there; a set of nothing else is refused."""
    np.savez(tmp_path / "data.npz", inputs=FEATURES, labels=LABELS)
    recipe = Recipe(name="t", data="data.npz", transfer="more.npz")
    split = load_data(recipe, tmp_path, None)
    new = np.concatenate([FEATURES[:2] + 9, split.train.inputs])
    np.savez(tmp_path / "more.npz", inputs=np.concatenate([split.validation.inputs[:1], new, split.test.inputs]))
    found = load_transfer(recipe, tmp_path, None, split)
    assert found.left_out == 1 + len(split.test.inputs)
    np.testing.assert_array_equal(found.inputs, new)
    np.savez(tmp_path / "more.npz", inputs=split.test.inputs)
    with pytest.raises(DataError, match="all 5 inputs are validation or test examples, expected others"):
        load_transfer(recipe, tmp_path, None, split)


def test_pixels_outside_the_datas_range_are_told(tmp_path):
    """Digits go from 0 to 16, whatever uint8 could hold."""
    np.savez(tmp_path / "more.npz", inputs=np.full((2, 8, 8), 255, dtype=np.uint8))
    with pytest.raises(DataError, match="inputs go from 255 to 255, expected 0 to 16"):
        _load(tmp_path, Recipe(name="t", data="digits", transfer="more.npz"))


def test_no_such_set_is_told(tmp_path):
    """With what it could be."""
    with pytest.raises(DataError, match=r"no transfer set 'more': expected emnist, an \.npz, \.csv or \.parquet file"):
        features(tmp_path, "more")
    (tmp_path / "more.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match="a table goes with a table"):
        features(tmp_path, "more.csv")
