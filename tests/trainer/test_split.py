"""The three parts: disjoint, stratified, the same for each seed; and what cannot be divided."""

import numpy as np
import pytest
from sklearn.datasets import load_digits as original

from trainer.data.digits import load_digits
from trainer.data.split import Shares, Split, make_split, stratified
from trainer.errors import DataError

SHARES = Shares(validation=0.2, test=0.2, seed=0)
INPUTS = np.arange(24, dtype=np.float32).reshape(12, 2)
LABELS = np.arange(12, dtype=np.int64) % 2
PARTS = np.array([0, 0, 1, 1, 2, 2, 0, 0, 0, 0, 0, 0])


def split_of(inputs=INPUTS, labels=LABELS, classes=("no", "yes"), parts=PARTS) -> Split:
    return make_split("mine", inputs, labels, classes, None, parts)


def parts_of(split: Split) -> list[np.ndarray]:
    return [split.train.inputs, split.validation.inputs, split.test.inputs]


def test_digits_are_all_there_in_disjoint_parts():
    """1,797 images in three parts, each image in one of them."""
    split = load_digits(SHARES)
    assert [len(part) for part in parts_of(split)] == [1077, 360, 360]
    together = np.concatenate([part.reshape(len(part), -1) for part in parts_of(split)])
    np.testing.assert_array_equal(np.unique(together, axis=0), np.unique(original().data.astype(np.uint8), axis=0))
    order = np.lexsort(together.T)
    np.testing.assert_array_equal(together[order], original().data[np.lexsort(original().data.T)])


def test_digits_keep_their_labels():
    """Every image has the label that scikit-learn gives it."""
    known = {
        image.astype(np.uint8).tobytes(): int(label) for image, label in zip(*original(return_X_y=True), strict=True)
    }
    split = load_digits(SHARES)
    for part in (split.train, split.validation, split.test):
        assert [known[image.tobytes()] for image in part.inputs] == part.labels.tolist()


def test_digits_say_what_they_are():
    """8x8 images of 0 to 16, ten classes."""
    split = load_digits(SHARES)
    assert split.shape == (8, 8)
    assert split.classes == tuple("0123456789")
    assert split.image is not None
    assert split.image.range == (0.0, 16.0)
    assert (split.train.inputs.min(), split.train.inputs.max()) == (0, 16)


def test_parts_are_stratified():
    """Each class has its share in every part, to within one example."""
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    part_N = stratified("mine", labels, SHARES)
    for label, total in ((0, 600), (1, 300), (2, 100)):
        counts = np.bincount(part_N[labels == label], minlength=3)
        np.testing.assert_allclose(counts, [0.6 * total, 0.2 * total, 0.2 * total], atol=1)


def test_the_same_seed_gives_the_same_parts():
    """And another seed gives others."""
    assert load_digits(SHARES).sha256() == load_digits(SHARES).sha256()
    assert load_digits(SHARES).sha256() != load_digits(SHARES._replace(seed=1)).sha256()


def test_no_test_share_leaves_the_test_part_to_the_data_set():
    """MNIST brings its own test set."""
    assert np.bincount(stratified("mine", np.arange(100) % 2, SHARES._replace(test=0.0))).tolist() == [80, 20]


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": INPUTS + 1},
        {"labels": 1 - LABELS},
        {"parts": PARTS[::-1]},
        {"classes": ("nein", "ja")},
        {"inputs": INPUTS.reshape(12, 2, 1)},
    ],
)
def test_the_hash_covers_everything(change):
    """Other inputs, labels, parts, classes or shape: another data set."""
    assert split_of(**change).sha256() != split_of().sha256()


def test_the_hash_does_not_depend_on_the_type_of_the_numbers():
    """The same numbers as uint8 and as float64 are the same data."""
    assert split_of(INPUTS.astype(np.uint8)).sha256() == split_of(INPUTS.astype(np.float64)).sha256()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_inputs_that_are_not_finite_are_refused(bad):
    """As float32: 1e39 is infinity there. The first of them is named."""
    inputs = INPUTS.astype(np.float64)
    inputs[[7, 9], 1] = bad
    with pytest.raises(DataError) as caught:
        split_of(inputs)
    assert str(caught.value) == "mine: 2 examples hold NaN or infinity as float32, the first is number 7"


def test_text_is_refused():
    """Inputs are numbers."""
    with pytest.raises(DataError, match="mine: inputs are of type <U4, expected numbers"):
        split_of(INPUTS.astype("<U4"))


@pytest.mark.parametrize(("labels", "low", "high"), [(LABELS + 1, 1, 2), (LABELS - 1, -1, 0)])
def test_labels_out_of_range_are_refused(labels, low, high):
    """Labels index the classes."""
    with pytest.raises(DataError) as caught:
        split_of(labels=labels)
    assert str(caught.value) == f"mine: labels go from {low} to {high}, expected 0 to 1 for 2 classes"


@pytest.mark.parametrize(("code", "what"), [(0, "train"), (1, "validation"), (2, "test")])
def test_an_empty_part_is_refused(code, what):
    """By its name."""
    parts = np.where(code == PARTS, (code + 1) % 3, PARTS)
    with pytest.raises(DataError) as caught:
        split_of(parts=parts)
    assert str(caught.value) == f"mine: the {what} part is empty; it takes all of train, validation and test"


def test_a_class_without_training_examples_is_refused():
    """By its name."""
    parts = np.where(LABELS == 1, 2, PARTS)
    with pytest.raises(DataError) as caught:
        split_of(parts=parts)
    assert str(caught.value) == "mine: no training example of class yes"


def test_of_many_classes_without_training_examples_a_few_are_named():
    with pytest.raises(DataError) as caught:
        make_split("mine", INPUTS, LABELS, tuple(map(str, range(1000))), None, PARTS)
    assert str(caught.value) == "mine: no training example of class 2, 3, 4, 5, 6 and 993 more"


def test_one_class_is_refused():
    """There is nothing to tell apart."""
    with pytest.raises(DataError, match="mine: 1 class, expected at least 2"):
        split_of(labels=0 * LABELS, classes=("only",))


def test_two_classes_of_one_name_are_refused():
    """A manifest cannot hold them, so they are refused before anything is trained."""
    with pytest.raises(DataError, match="yes"):
        split_of(classes=("yes", "yes"))


def test_a_class_name_of_two_lines_is_refused():
    """labels.txt holds one class a line."""
    with pytest.raises(DataError, match="line"):
        split_of(classes=("no", "yes\nor no"))


def test_examples_without_numbers_are_refused():
    """Nothing can be learned from inputs of shape [N, 0]."""
    with pytest.raises(DataError, match=r"\[12, 0\]|\[0\]"):
        split_of(inputs=np.zeros((12, 0), np.float32))


def test_a_rare_class_is_refused():
    """It takes one example for each part."""
    labels = np.array([0] * 20 + [1] * 20 + [2] * 2)
    with pytest.raises(DataError) as caught:
        stratified("mine", labels, SHARES)
    assert str(caught.value) == "mine: label 2 has 2 examples, expected at least 3, one for each part"


def test_shares_too_small_for_the_classes_are_refused():
    """Ten examples of ten classes do not fit into a test part of four."""
    with pytest.raises(DataError, match=r"mine: cannot be split, 0\.1 validation and 0\.1 test: .*"):
        stratified("mine", np.repeat(np.arange(10), 4), Shares(0.1, 0.1, 0))
