"""EMNIST: its split, what its two files must hold, and README's way to make them."""

import gzip
import os
import re
from pathlib import Path

import numpy as np
import pytest

from tests.trainer.conftest import ROOT
from tests.trainer.test_mnist import idx
from trainer.data import load_data, load_transfer
from trainer.data.emnist import load_emnist
from trainer.errors import DataError
from trainer.recipe import Recipe

SIZES = (60, 20, 10)
IMAGES = np.broadcast_to(np.arange(90, dtype=np.uint8)[:, None, None], (90, 28, 28))
ARRAYS = {"images": IMAGES, "labels": np.arange(90, dtype=np.uint8) % 3, "characters": np.array(["0", "O", "o"])}
RECIPE = Recipe(name="e", data="emnist", transfer="emnist")
WHAT_TO_DO = (
    "and nothing is downloaded; make {} as README.md says under EMNIST, put it into a folder DIR/emnist and pass "
    "--data-dir DIR, or set STILLROOM_DATA=DIR"
)


def write(folder: Path, **arrays: np.ndarray) -> Path:
    """`byclass.npz`, and the folder of data that it lies in."""
    (folder / "emnist").mkdir()
    np.savez(folder / "emnist" / "byclass.npz", **arrays)
    return folder


def test_the_parts_are_of_one_permutation(tmp_path):
    """Which numpy draws from seed 0: the first are for training, the next for validation, the last for the test; every
    image, whose pixels are its number here, keeps its label."""
    split = load_emnist(write(tmp_path, **ARRAYS), SIZES)
    order = np.random.default_rng(0).permutation(90)
    parts = (split.train, split.validation, split.test)
    for part, numbers in zip(parts, (order[:60], order[60:80], order[80:]), strict=True):
        assert sorted(part.inputs[:, 5, 5].tolist()) == sorted(numbers.tolist())
        assert (part.inputs[:, 27, 0] % 3).tolist() == part.labels.tolist()
    assert (split.name, split.classes, split.shape) == ("emnist", ("0", "O", "o"), (28, 28))
    assert split.image is not None
    assert (split.image.range, split.image.margin) == ((0.0, 255.0), pytest.approx(2 / 28))


def test_another_number_of_characters_is_told(tmp_path):
    """A share of another set would be another split: the whole test part is expected."""
    with pytest.raises(DataError) as caught:
        load_data(RECIPE, tmp_path, write(tmp_path, **ARRAYS))
    assert str(caught.value) == (
        f"{tmp_path}/emnist/byclass.npz: images have shape [90, 28, 28] and labels [90], expected [116323, 28, 28] and "
        "[116323], the test part of EMNIST ByClass"
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"labels": np.zeros(89, np.uint8)}, "and labels [89], expected [90, 28, 28] and [90]"),
        ({"images": IMAGES[:, 1:]}, "images have shape [90, 27, 28]"),
        ({"images": IMAGES / 255}, "images are of type float64 and labels of type uint8, expected uint8 and integers"),
        ({"labels": np.array(["0"] * 90)}, "labels of type <U1, expected uint8 and integers"),
        ({"characters": np.arange(3)}, "characters have shape [3] and type int64, expected [K] of text"),
    ],
)
def test_arrays_of_another_kind_are_told(tmp_path, changes, told):
    """Shapes and types."""
    with pytest.raises(DataError, match=re.escape(told)):
        load_emnist(write(tmp_path, **{**ARRAYS, **changes}), SIZES)


def test_other_arrays_are_told(tmp_path):
    """What is there, and what should be."""
    with pytest.raises(DataError, match=r"byclass\.npz holds inputs; expected images, labels, characters"):
        load_emnist(write(tmp_path, inputs=IMAGES), SIZES)


def test_without_a_folder_of_data_it_is_told_what_to_make(tmp_path):
    """Unlike MNIST it is not downloaded."""
    with pytest.raises(DataError) as caught:
        load_data(RECIPE, tmp_path, None)
    assert str(caught.value) == f"EMNIST: no folder of data is given, {WHAT_TO_DO.format('byclass.npz')}"


def test_missing_files_are_told_with_what_to_do(tmp_path):
    """Each of the two."""
    with pytest.raises(DataError) as caught:
        load_data(RECIPE, tmp_path, tmp_path)
    assert str(caught.value) == f"EMNIST: {tmp_path}/emnist lacks byclass.npz, {WHAT_TO_DO.format('byclass.npz')}"
    split = load_emnist(write(tmp_path, **ARRAYS), SIZES)
    with pytest.raises(DataError) as caught:
        load_transfer(RECIPE, tmp_path, tmp_path, split)
    assert str(caught.value) == f"EMNIST: {tmp_path}/emnist lacks unlabelled.npz, {WHAT_TO_DO.format('unlabelled.npz')}"


def test_the_transfer_set_is_found_beside_the_data(tmp_path):
    """Less what is held out."""
    split = load_emnist(write(tmp_path, **ARRAYS), SIZES)
    new = np.full((2, 28, 28), 200, dtype=np.uint8)
    np.savez(tmp_path / "emnist" / "unlabelled.npz", images=np.concatenate([new, split.test.inputs]))
    found = load_transfer(RECIPE, tmp_path / "elsewhere", tmp_path, split)
    assert found.left_out == 10
    np.testing.assert_array_equal(found.inputs, new)


def test_the_readme_makes_both_files(tmp_path, monkeypatch):
    """From the public IDX files, whose images are transposed."""
    monkeypatch.chdir(tmp_path)
    Path("gzip").mkdir()
    upright = np.random.default_rng(0).integers(0, 256, (70, 28, 28), dtype=np.uint8)
    labels = np.arange(70) % 62
    files = {"test-images-idx3": upright.transpose(0, 2, 1), "test-labels-idx1": labels, "train-images-idx3": upright}
    for name, array in files.items():
        Path(f"gzip/emnist-byclass-{name}-ubyte.gz").write_bytes(gzip.compress(idx(array)))
    (block,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), flags=re.M | re.S)
    exec(block, {})
    with np.load("emnist/byclass.npz") as byclass, np.load("emnist/unlabelled.npz") as unlabelled:
        np.testing.assert_array_equal(byclass["images"], upright)
        np.testing.assert_array_equal(unlabelled["images"], upright.transpose(0, 2, 1))
        assert byclass["characters"][byclass["labels"]].tolist()[8:13] == ["8", "9", "A", "B", "C"]
        assert byclass["characters"][[35, 36, 61]].tolist() == ["Z", "a", "z"]


DATA = os.environ.get("STILLROOM_DATA")


@pytest.mark.skipif(
    not (DATA and (Path(DATA) / "emnist").is_dir()), reason="needs EMNIST: set STILLROOM_DATA to a folder of it"
)
def test_the_real_emnist():
    """116,323 characters of 62 classes, and 50,000 further ones of which none is held out."""
    split = load_data(RECIPE, Path(), Path(str(DATA)))
    assert [len(part.labels) for part in (split.train, split.validation, split.test)] == [90_000, 10_000, 16_323]
    assert (len(split.classes), split.classes[10], split.classes[61]) == (62, "A", "z")
    inputs, left_out = load_transfer(RECIPE, Path(), Path(str(DATA)), split)
    assert (inputs.shape, left_out) == ((50_000, 28, 28), 0)
