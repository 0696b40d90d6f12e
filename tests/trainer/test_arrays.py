"""The user's own .npz file: what is read from it, and what each mistake is told."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from trainer.data.arrays import load_npz
from trainer.data.split import Shares
from trainer.errors import DataError

SHARES = Shares(validation=0.2, test=0.2, seed=0)
RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal(size=(60, 5))
LABELS = np.arange(60) % 3
PARTS = np.repeat([0, 1, 2], 20)


def file_of(folder: Path, **arrays: object) -> Path:
    path = folder / "mine.npz"
    np.savez(path, **arrays)
    return path


def error_of(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_npz(path, SHARES)
    return str(caught.value).replace(str(path), "FILE")


def test_inputs_and_labels_are_enough(tmp_path):
    """Classes are numbered, the split is made by seed and stratified."""
    split = load_npz(file_of(tmp_path, inputs=FEATURES, labels=LABELS), SHARES)
    assert (split.name, split.classes, split.shape, split.image) == ("mine", ("0", "1", "2"), (5,), None)
    assert [np.bincount(part.labels).tolist() for part in (split.train, split.validation, split.test)] == [
        [12, 12, 12],
        [4, 4, 4],
        [4, 4, 4],
    ]
    known = {row.tobytes(): label for row, label in zip(FEATURES, LABELS, strict=True)}
    assert [known[row.tobytes()] for row in split.test.inputs] == split.test.labels.tolist()


def test_classes_and_split_are_taken_as_given(tmp_path):
    """By name, and example for example."""
    path = file_of(tmp_path, inputs=FEATURES, labels=LABELS, classes=np.array(["a", "é", "c"]), split=PARTS)
    split = load_npz(path, SHARES)
    assert split.classes == ("a", "é", "c")
    for part, rows in ((split.train, slice(20)), (split.validation, slice(20, 40)), (split.test, slice(40, 60))):
        np.testing.assert_array_equal(part.inputs, FEATURES[rows])
        np.testing.assert_array_equal(part.labels, LABELS[rows])
        assert part.labels.dtype == np.int64


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
def test_labels_of_any_integer_type_become_int64(tmp_path, dtype):
    """As PyTorch wants them."""
    split = load_npz(file_of(tmp_path, inputs=FEATURES, labels=LABELS.astype(dtype)), SHARES)
    assert split.train.labels.dtype == np.int64


def test_bytes_of_two_dimensions_are_grey_images(tmp_path):
    """uint8 [N, H, W], 0 to 255."""
    images = RANDOM.integers(0, 256, (60, 6, 7), dtype=np.uint8)
    split = load_npz(file_of(tmp_path, inputs=images, labels=LABELS), SHARES)
    assert split.shape == (6, 7)
    assert split.image is not None
    assert split.image.range == (0.0, 255.0)


@pytest.mark.parametrize(
    "inputs", [FEATURES.astype(np.float32), RANDOM.random((60, 4, 4)), np.ones((60, 4, 4, 3), "u1")]
)
def test_everything_else_is_features(tmp_path, inputs):
    """Floating point numbers, and colours."""
    assert load_npz(file_of(tmp_path, inputs=inputs, labels=LABELS), SHARES).image is None


def test_a_compressed_file_is_read(tmp_path):
    """np.savez_compressed writes .npz, too."""
    np.savez_compressed(tmp_path / "mine.npz", inputs=FEATURES, labels=LABELS)
    assert load_npz(tmp_path / "mine.npz", SHARES).shape == (5,)


def test_a_missing_file(tmp_path):
    assert error_of(tmp_path / "mine.npz") == "no data at FILE: expected an .npz file with `inputs` and `labels`"


def test_a_folder_of_that_name(tmp_path):
    (tmp_path / "mine.npz").mkdir()
    assert error_of(tmp_path / "mine.npz").startswith("FILE is no .npz file of plain arrays: ")


@pytest.mark.parametrize("held", [{"inputs": FEATURES}, {"labels": LABELS}, {"x": FEATURES, "y": LABELS}])
def test_missing_arrays(tmp_path, held):
    """It says what the file holds and what is expected."""
    message = f"FILE holds {', '.join(held)}; expected inputs, labels and optionally classes, split"
    assert error_of(file_of(tmp_path, **held)) == message


def test_unknown_arrays(tmp_path):
    """A misspelt key is not passed over."""
    message = error_of(file_of(tmp_path, inputs=FEATURES, labels=LABELS, clases=np.array(["a", "b", "c"])))
    assert message == "FILE holds inputs, labels, clases; expected inputs, labels and optionally classes, split"


@pytest.mark.parametrize(
    ("inputs", "labels", "shapes"),
    [
        (FEATURES, LABELS[:59], "[60, 5] and labels [59]"),
        (FEATURES, LABELS[:, None], "[60, 5] and labels [60, 1]"),
        (FEATURES[:, 0], LABELS, "[60] and labels [60]"),
        (np.float64(1), np.int64(1), "[] and labels []"),
        (FEATURES[:0], LABELS[:0], "[0, 5] and labels [0]"),
    ],
)
def test_wrong_shapes(tmp_path, inputs, labels, shapes):
    """It says the shapes found and expected."""
    message = f"FILE: inputs have shape {shapes}, expected [N, ...] and [N]"
    assert error_of(file_of(tmp_path, inputs=inputs, labels=labels)) == message


@pytest.mark.parametrize("labels", [LABELS.astype(float), LABELS.astype(str), LABELS == 1])
def test_labels_that_are_no_integers(tmp_path, labels):
    """It says where names belong."""
    message = f"FILE: labels are of type {labels.dtype}, expected integers; name the classes in `classes`"
    assert error_of(file_of(tmp_path, inputs=FEATURES, labels=labels)) == message


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        (PARTS[:59], "shape [59] and values [0, 1, 2]"),
        (PARTS + 1, "shape [60] and values [1, 2, 3]"),
        (np.array(["train"] * 60), "shape [60] and values ['train']"),
    ],
)
def test_a_split_that_is_none(tmp_path, parts, found):
    """It says what the codes mean."""
    message = error_of(file_of(tmp_path, inputs=FEATURES, labels=LABELS, split=parts))
    assert message == f"FILE: split has {found}, expected [60] of 0 (train), 1 (validation), 2 (test)"


def test_not_a_number(tmp_path):
    inputs = FEATURES.copy()
    inputs[3, 1] = np.nan
    message = error_of(file_of(tmp_path, inputs=inputs, labels=LABELS))
    assert message == "mine: 1 examples hold NaN or infinity as float32, the first is number 3"


def test_text_for_inputs(tmp_path):
    assert error_of(file_of(tmp_path, inputs=FEATURES.astype("<U9"), labels=LABELS)).endswith("expected numbers")


def test_too_few_classes_for_the_labels(tmp_path):
    message = error_of(file_of(tmp_path, inputs=FEATURES, labels=LABELS, classes=np.array(["a", "b"])))
    assert message == "mine: labels go from 0 to 2, expected 0 to 1 for 2 classes"


def test_negative_labels(tmp_path):
    """Without names the classes are as many as the labels go up to."""
    assert "labels go from -1 to 1" in error_of(file_of(tmp_path, inputs=FEATURES, labels=LABELS - 1))


def test_a_label_that_is_far_too_large(tmp_path):
    """Identity numbers for labels are refused in one short line, not turned into a million class names."""
    labels = LABELS.astype(np.int64)
    labels[labels == 2] = 1_000_000
    message = error_of(file_of(tmp_path, inputs=FEATURES, labels=labels, split=PARTS))
    assert "1000000" in message
    assert len(message) < 300


@pytest.mark.parametrize("classes", [np.array("abc"), np.array([["a", "b", "c"]]), np.array([b"a", b"b", b"c"])])
def test_classes_that_are_no_row_of_text(tmp_path, classes):
    """One name, a table, bytes: none of them is a list of names."""
    assert "classes" in error_of(file_of(tmp_path, inputs=FEATURES, labels=LABELS, classes=classes))


def test_two_classes_of_one_name(tmp_path):
    """A manifest cannot hold them."""
    message = error_of(file_of(tmp_path, inputs=FEATURES, labels=LABELS, classes=np.array(["a", "b", "a"])))
    assert "a" in message


def test_pickled_objects_are_refused(tmp_path):
    """They could run code."""
    objects = np.array([{"a": 1}] * 60, dtype=object)
    message = error_of(file_of(tmp_path, inputs=objects, labels=LABELS))
    assert message.startswith("FILE is no .npz file of plain arrays: Object arrays cannot be loaded")


@pytest.mark.parametrize("raw", [b"", b"inputs,labels\n1,0\n", b"PK\x03\x04 no zip", b"\x80\x04pickle"])
def test_bytes_that_are_no_npz(tmp_path, raw):
    (tmp_path / "mine.npz").write_bytes(raw)
    assert error_of(tmp_path / "mine.npz").startswith("FILE is no .npz file of plain arrays: ")


def test_a_single_array_with_the_name_of_an_npz(tmp_path):
    """np.save instead of np.savez."""
    with (tmp_path / "mine.npz").open("wb") as file:
        np.save(file, FEATURES)
    assert error_of(tmp_path / "mine.npz").startswith("FILE is no .npz file of plain arrays: ")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.99])
def test_a_truncated_file(tmp_path, save, share):
    """Wherever it was cut."""
    path = tmp_path / "mine.npz"
    save(path, inputs=FEATURES, labels=LABELS)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(share * len(raw))])
    assert error_of(path).startswith("FILE is no .npz file of plain arrays: ")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_file(tmp_path, save):
    """Bytes turned over anywhere give an error of ours or no error, never another one."""
    path = tmp_path / "mine.npz"
    save(path, inputs=FEATURES, labels=LABELS)
    raw = path.read_bytes()
    refused = 0
    for start in range(0, len(raw), max(1, len(raw) // 150)):
        damaged = bytearray(raw)
        for position in range(start, min(start + 4, len(raw))):
            damaged[position] ^= 0xA5
        path.write_bytes(damaged)
        try:
            load_npz(path, SHARES)
        except DataError:
            refused += 1
    assert refused > 100


def test_a_member_that_is_no_array(tmp_path):
    """A zip file whose `inputs` is some other file."""
    path = tmp_path / "mine.npz"
    labels = io.BytesIO()
    np.save(labels, LABELS)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("inputs", "not an array")
        archive.writestr("labels.npy", labels.getvalue())
    assert error_of(path).startswith("FILE is no .npz file of plain arrays: ")
