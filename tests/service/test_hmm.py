"""Which word a recording says: the best path against every path, and the file of the word models."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest

from service.errors import ModelError
from service.inputs.hmm import WordModels, ends, read_word_models, save_word_models, viterbi, word_chains


def drawn(words: int = 3, states: int = 2, seed: int = 0, scale: float = 0.5) -> WordModels:
    draws = np.random.default_rng(seed)
    total = 1 + words * states
    stay = draws.uniform(0.2, 0.9, size=total)
    prior = draws.dirichlet(np.ones(total))
    names = tuple(f"word {index}" for index in range(words))
    numbers = (array.astype(np.float32) for array in (np.log(prior), np.log(stay), np.log1p(-stay)))
    return WordModels(names, *numbers, scale)


def every_path(emissions_TS: np.ndarray, models: WordModels, word: int) -> float:
    """The best of all ways to walk through a chain, one by one."""
    chain = models.chains[word]
    best = -np.inf
    for places in itertools.product(range(len(chain)), repeat=len(emissions_TS)):
        steps = np.diff(places)
        if places[0] > 1 or places[-1] < len(chain) - 2 or not set(steps.tolist()) <= {0, 1}:
            continue
        path = chain[list(places)]
        moves = [
            (models.log_leave if step else models.log_stay)[state] for state, step in zip(path, steps, strict=False)
        ]
        best = max(best, float(emissions_TS[np.arange(len(path)), path].sum() + sum(moves)))
    return best


def test_chains_share_their_silence():
    assert word_chains(2, 3).tolist() == [[0, 1, 2, 3, 0], [0, 4, 5, 6, 0]]


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_those_of_the_best_of_all_paths(seed):
    models = drawn(seed=seed)
    logits_NTS = np.random.default_rng(seed).normal(scale=3, size=(4, 6, 7)).astype(np.float32)
    lengths = [6, 5, 3, 2]
    found = models.scores(models.log_likelihoods(logits_NTS), lengths)
    for row, length in enumerate(lengths):
        emissions_TS = logits_NTS[row, :length] - models.log_prior
        expected = [every_path(emissions_TS, models, word) for word in range(3)]
        assert found[row] == pytest.approx(expected, rel=1e-5)


def test_what_stands_behind_a_recording_does_not_count():
    models = drawn()
    logits_NTS = np.random.default_rng(0).normal(size=(1, 5, 7)).astype(np.float32)
    behind = np.full((1, 40, 7), 1e3, dtype=np.float32)
    together = models.logits(np.concatenate([logits_NTS, behind], axis=1), [5])
    assert np.array_equal(together, models.logits(logits_NTS, [5]))


def test_no_word_fits_into_a_recording_that_is_shorter_than_it():
    """Its score is minus infinity, which no distribution may be made of."""
    scores = drawn(states=4).scores(np.zeros((1, 3, 13), dtype=np.float32), [3])
    assert np.isneginf(scores).all()


def test_the_moves_lead_back_along_the_best_path():
    """A chain whose emissions leave no doubt."""
    emissions_TC = np.full((6, 4), -50.0, dtype=np.float32)
    places = [0, 1, 1, 2, 2, 3]
    emissions_TC[np.arange(6), places] = 0.0
    even = np.full(4, np.log(0.5), dtype=np.float32)
    moved_TC = np.zeros((6, 4), dtype=np.bool_)
    last = ends(viterbi(emissions_TC, even, even, np.array(6), moved_TC))
    assert last.argmax() == 1
    assert last.max() == pytest.approx(5 * np.log(0.5))
    assert [bool(moved_TC[t, place]) for t, place in enumerate(places)] == [False, True, False, True, False, True]


def test_logits_are_scores_times_the_scale():
    models = drawn(scale=0.25)
    logits_NTS = np.random.default_rng(0).normal(size=(2, 9, 7)).astype(np.float32)
    scores = models.scores(models.log_likelihoods(logits_NTS), [9, 8])
    assert np.allclose(models.logits(logits_NTS, [9, 8]), 0.25 * scores)


def test_word_models_come_back_from_their_file():
    models = drawn()
    found = read_word_models(save_word_models(models), "speech/1")
    assert found.words == models.words
    assert found.scale == models.scale
    for key in ("log_prior", "log_stay", "log_leave"):
        assert np.array_equal(getattr(found, key), getattr(models, key))


def saved(**changed: object) -> bytes:
    models = drawn()
    arrays = {key: getattr(models, key) for key in ("words", "log_prior", "log_stay", "log_leave", "scale")} | changed
    file = io.BytesIO()
    np.savez(file, **{key: value for key, value in arrays.items() if value is not None})
    return file.getvalue()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"nothing", "is no file of the arrays words, log_prior, log_stay, log_leave, scale: "),
        (saved(scale=None), "is no file of the arrays words, log_prior, log_stay, log_leave, scale: "),
        (saved(words=np.array([b"a", b"b", b"c"])), "holds words [3] and arrays [[7]], expected W words"),
        (saved(words=np.array(["a", "b"], dtype=object)), "is no file of the arrays"),
        (
            saved(log_stay=np.zeros(6)),
            "holds words [3] and arrays [[6], [7]], expected W words and arrays of 1 + W × L",
        ),
        (saved(words=np.array(["a", "b", "c", "d"])), "holds words [4] and arrays [[7]], expected W words"),
        (saved(log_prior=np.full(7, np.nan)), "holds numbers that are not finite, or a scale that is not above 0"),
        (saved(scale=0.0), "holds numbers that are not finite, or a scale that is not above 0"),
        (saved(scale="1"), "holds words [3] and arrays [[7]], expected W words"),
        (saved(log_stay=np.full(7, 0.5)), "holds logarithms above 0, expected those of probabilities"),
    ],
)
def test_another_file_is_refused(raw, message):
    with pytest.raises(ModelError) as found:
        read_word_models(raw, "speech/1: hmm.npz")
    assert str(found.value).startswith(f"speech/1: hmm.npz: {message}")
