"""Alignment from a flat start, against scipy's Gaussians, hand-worked cases, and tunes whose tones are known."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from service.inputs.hmm import WordModels
from service.inputs.spoken import padded
from tests.recordings import write_digits
from trainer.speech.align import SHARED, STATES, Gaussians, align, fit_gaussians, flat_start, train_gaussians
from trainer.speech.corpus import read_corpus
from trainer.speech.features import Spoken, read_spoken


def drawn_gaussians(states: int, features: int) -> Gaussians:
    draws = np.random.default_rng(0)
    even = np.full(states, np.log(0.5), dtype=np.float32)
    return Gaussians(draws.normal(size=(states, features)), draws.uniform(0.5, 2, size=(states, features)), even, even)


def test_likelihoods_are_scipys():
    gaussians = drawn_gaussians(states=3, features=4)
    frames = np.random.default_rng(1).normal(size=(2, 5, 4)).astype(np.float32)
    found = gaussians.log_likelihoods(frames)
    for state, (mean, variance) in enumerate(zip(gaussians.mean_SD, gaussians.variance_SD, strict=True)):
        expected = multivariate_normal(mean, np.diag(variance)).logpdf(frames)
        assert found[..., state] == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_gaussians_are_means_and_variances_drawn_together():
    """Two states, four frames of one feature: variances 1 and 0, their mean over frames 0.5."""
    frames = [np.array([[0.0], [2.0], [5.0], [5.0]], dtype=np.float32)]
    gaussians = fit_gaussians(frames, [np.array([0, 0, 1, 1])], total=3)
    assert gaussians.mean_SD.ravel().tolist() == [1.0, 5.0, 3.0]  # a state without frames is like all of them
    variances = [(1 - SHARED) * 1 + SHARED * 0.5, SHARED * 0.5, frames[0].var()]
    assert gaussians.variance_SD.ravel() == pytest.approx(variances)
    assert np.exp(gaussians.log_stay) == pytest.approx([2 / 4, 2 / 3, 1 / 2])  # one of either seen before
    assert np.exp(gaussians.log_leave) == pytest.approx([2 / 4, 1 / 3, 1 / 2])


def test_a_flat_start_divides_what_is_loud_evenly():
    loudness = np.array([0.0] * 4 + [10.0] * 16 + [0.0] * 5, dtype=np.float32)[:, None]
    expected = [0] * 4 + [state for state in range(1, STATES + 1) for _ in range(2)] + [STATES + 1] * 5
    assert flat_start(loudness).tolist() == expected


def test_a_recording_as_loud_all_the_way_is_all_word():
    assert flat_start(np.zeros((STATES, 3), dtype=np.float32)).tolist() == list(range(1, STATES + 1))


def test_rounds_find_the_words_in_the_silence(tmp_path):
    """Tunes lie between 0.1 s of noise and 0.1 s of noise, which the flat start does not know."""
    corpus = read_corpus("fsdd", write_digits(tmp_path, each=4))
    train, test = read_spoken(corpus.train), read_spoken(corpus.test)
    aligned = train_gaussians(train, len(corpus.words), rounds=6)
    assert aligned.log_likelihood[-1] > aligned.log_likelihood[0]
    states = align(aligned.gaussians, test, len(corpus.words))
    for states_T, word in zip(states, test.words_N, strict=True):
        steps = np.diff(states_T)
        assert set(states_T.tolist()) <= {0, *range(1 + STATES * word, 1 + STATES * (word + 1))}
        assert (steps[(states_T[:-1] > 0) & (states_T[1:] > 0)] >= 0).all()
        assert (states_T[:5] == 0).all()
        assert (states_T[-5:] == 0).all()
    assert errors(aligned.gaussians, test, corpus.words) == 0


def errors(gaussians: Gaussians, spoken: Spoken, words: tuple[str, ...]) -> int:
    """Recordings whose likeliest word is another than they say."""
    flat = np.zeros(len(gaussians.log_stay), dtype=np.float32)
    models = WordModels(words, flat, gaussians.log_stay, gaussians.log_leave, 1.0)
    scores = models.scores(gaussians.log_likelihoods(padded(spoken.cepstra)), spoken.lengths.tolist())
    return int((scores.argmax(axis=1) != spoken.words_N).sum())


def test_every_round_is_told(tmp_path):
    train = read_spoken(read_corpus("fsdd", write_digits(tmp_path, each=1)).train)
    told: list[int] = []
    train_gaussians(train, 10, rounds=3, told=told.append)
    assert told == [1, 2, 3]


@pytest.mark.skipif("STILLROOM_DATA" not in os.environ, reason="needs FSDD: set STILLROOM_DATA to a folder of it")
def test_single_gaussians_recognise_the_digits_of_a_stranger():
    """3.4 % of errors on the speaker of validation, 12.6 % on that of the test."""
    corpus = read_corpus("fsdd", Path(os.environ["STILLROOM_DATA"]))
    train, validation = read_spoken(corpus.train), read_spoken(corpus.validation)
    gaussians = train_gaussians(train, len(corpus.words)).gaussians
    assert errors(gaussians, validation, corpus.words) < 0.06 * len(validation.words_N)
