"""Groups of confused classes: against numpy, scikit-learn's other k-means, and confusions made by hand."""

import itertools

import numpy as np
import pytest
from sklearn.cluster import KMeans

from trainer.errors import TrainerError
from trainer.groups import Moments, confusion, disjoint, make_groups, moments, overlapping

BLOCKS = ((0, 4, 7), (1, 2), (3, 5, 6, 8))


def predictions(blocks=BLOCKS, examples: int = 600, seed: int = 0) -> np.ndarray:
    """log p [N, K]: each example's mass is mostly spread within the block of its class."""
    random = np.random.default_rng(seed)
    classes = 1 + max(label for block in blocks for label in block)
    p = np.full((examples, classes), 1e-3)
    for row in p:
        block = list(blocks[random.integers(len(blocks))])
        row[block] += random.dirichlet(np.ones(len(block)))
    return np.log(p / p.sum(axis=1, keepdims=True))


def covariance(pairs: dict[tuple[int, int], float], classes: int) -> np.ndarray:
    found = np.eye(classes)
    for (i, j), value in pairs.items():
        found[i, j] = found[j, i] = value
    return found


def error_of(*asked) -> str:
    with pytest.raises(TrainerError) as caught:
        make_groups(*asked)
    return str(caught.value)


def test_moments_equal_numpys(monkeypatch):
    """Mean and covariance, also where examples come in several chunks."""
    monkeypatch.setattr("trainer.groups.CHUNK", 100)
    found, p = moments(predictions()), np.exp(predictions())
    np.testing.assert_allclose(found.mean_K, p.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.covariance_KK, np.cov(p, rowvar=False, bias=True), atol=1e-15)
    np.testing.assert_allclose(found.together, (p[:, :, None] * p[:, None, :]).mean(axis=0), atol=1e-15)


@pytest.mark.parametrize("seed", range(3))
def test_blocks_of_confused_classes_are_the_groups(seed):
    """No labels are needed; every seed finds them."""
    assert make_groups(moments(predictions()), 3, None, False, seed) == sorted(BLOCKS)


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_what_whole_batches_find(seed):
    """scikit-learn's KMeans with many beginnings, on overlapping confusions of 30 classes in 6 blocks."""
    random = np.random.default_rng(seed)
    blocks = np.array_split(random.permutation(30), 6)
    found = moments(predictions([block.tolist() for block in blocks], 3000, seed))
    labels = KMeans(6, n_init=50, random_state=0).fit_predict(found.covariance_KK)
    expected = {tuple(np.flatnonzero(labels == group).tolist()) for group in range(6)}
    assert set(disjoint(found.covariance_KK, 6, None, seed)) == expected


def test_the_same_seed_gives_the_same_groups():
    """Of predictions without any structure, too."""
    noise = np.random.default_rng(0).dirichlet(np.ones(20), 200)
    found = moments(np.log(noise))
    assert make_groups(found, 5, None, False, 3) == make_groups(found, 5, None, False, 3)


def test_standardised_predictions_are_grouped_by_their_correlation():
    """numpy's corrcoef; classes that vary most do not stand apart."""
    found = moments(predictions())
    np.testing.assert_allclose(found.correlation, np.corrcoef(np.exp(predictions()), rowvar=False), atol=1e-12)
    assert np.abs(moments(np.log(np.full((7, 3), 1 / 3))).correlation).max() == 0.0
    certain = np.full((100, 5), 1e-9)
    certain[np.arange(100), np.r_[[0] * 20, [1] * 20, [2] * 20, [3] * 30, [4] * 10]] = 1.0
    certain[0, [0, 1]], certain[50, [2, 4]] = 0.5, 0.5
    torn = moments(np.log(certain / certain.sum(axis=1, keepdims=True)))
    groups = make_groups(torn, 3, 2, False, 0, standardise=True)
    assert groups == [(0, 1), (2, 4), (3,)]


def test_groups_of_a_size_have_no_more_classes():
    """The nearest classes stay; one without room is nobody's."""
    groups = make_groups(moments(predictions()), 3, 2, False, 0)
    assert [len(group) for group in groups] == [2, 2, 2]
    assert len({label for group in groups for label in group}) == 6
    for group in groups:
        assert any(set(group) <= set(block) for block in BLOCKS)


def test_greedy_groups_worked_by_hand():
    """The most confused pair first, then the class most confused with it; covered pairs count no more."""
    pairs = {(0, 1): 0.9, (1, 2): 0.8, (0, 2): 0.1, (2, 3): 0.7, (3, 4): 0.6, (1, 4): 0.5}
    assert overlapping(covariance(pairs, 5), 2, 3) == [(0, 1, 2), (2, 3, 4)]
    assert overlapping(covariance(pairs, 5), 4, 2) == [(0, 1), (1, 2), (2, 3), (3, 4)]


def test_greedy_groups_share_a_class_that_two_blocks_confuse():
    """Class 2 is confused with both sides."""
    found = moments(predictions([(0, 1, 2), (2, 3, 4)]))
    assert sorted(make_groups(found, 2, 3, True, 0)) == [(0, 1, 2), (2, 3, 4)]


def test_the_first_greedy_pair_is_the_most_confused_of_all():
    """Compared with every pair, on predictions without structure."""
    found = moments(np.log(np.random.default_rng(1).dirichlet(np.ones(12), 300)))
    (pair,) = overlapping(found.covariance_KK, 1, 2)
    assert pair == max(itertools.combinations(range(12), 2), key=lambda ij: found.covariance_KK[ij])


def test_confusion_worked_by_hand():
    """One example split between 0 and 1, one between 2 and 3 at 0.9 and 0.1: 2 x 0.25 against 2 x 0.09."""
    with np.errstate(divide="ignore"):
        found = moments(np.log([[0.5, 0.5, 0, 0], [0, 0, 0.9, 0.1]]))
    assert confusion(found, (0, 1)) == pytest.approx(0.25 / 0.34)
    assert confusion(found, (2, 3)) == pytest.approx(0.09 / 0.34)
    assert confusion(found, (0, 2)) == 0.0
    assert confusion(found, (0, 1, 2, 3)) == pytest.approx(1.0)


def test_a_certain_generalist_confuses_nothing():
    """A share of nothing is 0."""
    assert confusion(Moments(np.full(3, 1 / 3), np.eye(3) / 3 - 1 / 9), (0, 1)) == 0.0


def test_what_cannot_be_grouped_is_told():
    """With what was asked for and what there is."""
    found = moments(predictions())
    assert error_of(found, 10, None, False, 0) == "10 groups of 9 classes: expected at most 9"
    assert error_of(found, 1, None, False, 0) == (
        "one group holds all 9 classes and leaves none for its dustbin; choose more groups or a size"
    )
    assert error_of(found, 2, 9, False, 0) == (
        "groups of 9 classes of 9: expected fewer, some must be left for the dustbin"
    )
    assert error_of(found, 2, None, True, 0) == "overlapping groups need a size"


def test_predictions_that_are_all_alike_are_told():
    """Nothing tells the classes apart: k-means would leave groups empty."""
    assert error_of(moments(np.log(np.full((5, 4), 0.25))), 2, None, False, 0) == (
        "k-means cannot make 2 groups: the predictions of only 1 classes differ; choose fewer groups"
    )


def test_more_overlapping_groups_than_there_are_are_told():
    """Three classes have three pairs, and greed finds them all."""
    found = moments(np.log(np.random.default_rng(0).dirichlet(np.ones(3), 50)))
    assert len(make_groups(found, 3, 2, True, 0)) == 3
    with pytest.raises(TrainerError) as caught:
        overlapping(found.covariance_KK, 4, 2)
    assert str(caught.value) == (
        "4 overlapping groups of 2 classes: only 3 of them differ; choose fewer or another size"
    )


@pytest.mark.parametrize(
    ("log_p", "told"),
    [
        (np.zeros((0, 3)), r"predictions have shape \[0, 3\], expected \[N, K\] with N at least 1"),
        (np.zeros(3), r"predictions have shape \[3\], expected \[N, K\]"),
        (np.log([[0.5, 0.5], [0.5, 0.6]]), "prediction 1 sums to 1.1, expected log-probabilities of 2 classes"),
        (np.array([[np.nan, 0.0]]), "prediction 0 sums to nan, expected log-probabilities of 2 classes"),
    ],
)
def test_what_are_no_predictions_is_told(log_p, told):
    """Probabilities in the place of their logarithms, too."""
    with pytest.raises(TrainerError, match=told):
        moments(log_p)
