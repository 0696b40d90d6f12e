"""Word error rates and their intervals, words in strings, and the frames that networks learn from."""

from __future__ import annotations

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import t

from service.inputs.filterbanks import windows
from service.inputs.hmm import WordModels
from tests.recordings import write_digits
from trainer.display import Display
from trainer.speech.corpus import few_of_each, read_corpus
from trainer.speech.frames import AFTER, BEFORE, Speech, load_speech
from trainer.speech.loop import hear
from trainer.speech.strings import join
from trainer.speech.words import WordErrors, calibrated, difference, of_speakers, word_errors, word_scores


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Speech:
    corpus = read_corpus("fsdd", write_digits(tmp_path_factory.mktemp("data"), each=3))
    return load_speech(corpus, Display(Console(quiet=True)))


def gaussian_logits(speech: Speech, part: int) -> np.ndarray:
    """The Gaussians' answers as a network would give them: log p(state | frame), but for a term of the frame."""
    return speech.gaussians.log_likelihoods(np.concatenate(speech.said[part].cepstra)) + speech.models.log_prior


def test_word_errors_are_edits():
    """Right; one for another; one missing; one too many; nothing heard."""
    said = [[1, 2, 3], [1, 2, 3], [1, 2, 3], [1, 2, 3], [1, 2]]
    heard = [[1, 2, 3], [1, 7, 3], [1, 3], [1, 2, 9, 3], []]
    found = word_errors(said, heard, "aabbb")
    assert found.errors_N.tolist() == [0, 1, 1, 1, 2]
    assert found.rate == pytest.approx(100 * 5 / 14)


def drawn_errors(shift: float = 0.0) -> WordErrors:
    draws = np.random.default_rng(0)
    errors_N = (draws.uniform(size=600) < 0.1 + shift).astype(np.int64)
    return WordErrors(errors_N, np.ones(600, dtype=np.int64), [f"speaker {index % 6}" for index in range(600)])


def test_an_interval_over_recordings_is_that_of_a_proportion():
    """1.96 times the standard error of the paired difference, as there are many."""
    worse, better = drawn_errors(0.1), drawn_errors()
    found = difference(worse, better, over_speakers=False)
    more_N = 100.0 * (worse.errors_N - better.errors_N)
    half = 1.96 * more_N.std() / np.sqrt(600)
    assert found.value == pytest.approx(more_N.mean())
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.1)


def test_an_interval_over_speakers_holds_how_they_differ():
    """Six speakers with rates of 0, 10, ... 50 %: about as wide as Student's, which knows that they are few."""
    errors_N = np.concatenate([np.arange(10) < speaker for speaker in range(6)]).astype(np.int64)
    errors = WordErrors(errors_N, np.ones(60, dtype=np.int64), [str(index // 10) for index in range(60)])
    found = of_speakers(errors)
    assert found.value == 25.0
    half = t.ppf(0.975, 5) * np.std(np.arange(0, 60, 10), ddof=1) / np.sqrt(6)
    assert (found.low, found.high) == pytest.approx((25 - half, 25 + half), abs=2)
    assert difference(errors, errors, over_speakers=True) == (0.0, 0.0, 0.0)


def test_one_speaker_has_no_interval():
    errors = WordErrors(np.array([0, 1]), np.ones(2, dtype=np.int64), ["a", "a"])
    assert of_speakers(errors) == (50.0, None, None)


def test_scores_do_not_depend_on_what_is_decoded_together(speech: Speech):
    """Recordings of all lengths, in blocks, and one by one."""
    logits, lengths = gaussian_logits(speech, 2), speech.said[2].lengths
    together = word_scores(speech.models, logits, lengths)
    single = [speech.models.logits(each[None], [len(each)])[0] for each in np.split(logits, np.cumsum(lengths)[:-1])]
    assert np.allclose(together, single, rtol=1e-4)


def test_a_calibrated_scale_has_the_lowest_nll(speech: Speech):
    logits, spoken = gaussian_logits(speech, 1), speech.said[1]

    def nll(models: WordModels) -> float:
        scores = word_scores(models, logits, spoken.lengths).astype(np.float64)
        log_p = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
        return -float(log_p[np.arange(len(log_p)), spoken.words_N].mean())

    wrong = spoken._replace(words_N=np.roll(spoken.words_N, 1))  # some must be wrong, or no scale is too sure
    mixed_N = np.where(np.arange(len(wrong.words_N)) % 5 == 0, wrong.words_N, spoken.words_N)
    found = calibrated(speech.models, logits, spoken.lengths, mixed_N)
    spoken = spoken._replace(words_N=mixed_N)
    assert 1e-3 < found.scale < 1
    assert nll(found) < min(nll(found.scaled(0.7 * found.scale)), nll(found.scaled(1.4 * found.scale)))


def test_frames_are_windows_and_states(speech: Speech):
    """Recording by recording; the 21st frame of a window is the one that its state is about."""
    spoken = speech.said[0]
    first = len(spoken.frames[0])
    assert speech.shape == (26, 40)
    assert len(speech.classes) == 81
    assert speech.classes[:2] == ("silence", "zero 1")
    assert speech.classes[-1] == "nine 8"
    assert len(speech.train.labels) == spoken.lengths.sum()
    assert np.array_equal(speech.train.inputs[:first, 20], spoken.frames[0])
    assert np.array_equal(speech.train.inputs[first : 2 * first], windows(spoken.frames[1], BEFORE, AFTER)[:first])
    prior = np.exp(speech.models.log_prior)
    assert prior.sum() == pytest.approx(1, rel=1e-5)
    assert prior[0] == pytest.approx((speech.train.labels == 0).mean(), abs=0.01)


def test_strings_are_of_one_speaker_and_divided_evenly(tmp_path):
    corpus = read_corpus("fsdd", write_digits(tmp_path, each=2))
    strings = join(corpus.train, length=4, most=6)
    assert [string.speaker for string in strings] == ["george"] * 2 + ["jackson"] * 2 + ["lucas"] * 2
    assert {len(string.words) for string in strings} == {4}
    assert all(np.isfinite(string.frames).all() for string in strings)
    again = join(corpus.train, length=4, most=6)
    assert all(np.array_equal(one.frames, other.frames) for one, other in zip(strings, again, strict=True))
    few = few_of_each(corpus, 1)
    assert (len(few.train), len(few.test)) == (30, 10)


def hand_made(words: int = 3, states: int = 2) -> WordModels:
    """Every move as likely as the other, and every state as common."""
    even = np.full(1 + words * states, np.log(0.5), dtype=np.float32)
    return WordModels(("a", "b", "c"), np.zeros(1 + words * states, dtype=np.float32), even, even, 1.0)


def sure(path: list[int], states: int = 7) -> np.ndarray:
    """Logits [1, T, S] that leave no doubt about the states."""
    logits = np.full((1, len(path), states), -50.0, dtype=np.float32)
    logits[0, np.arange(len(path)), path] = 0.0
    return logits


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ([0, 1, 1, 2, 0, 3, 4, 0], [0, 1]),
        ([1, 2, 3, 4, 5, 6], [0, 1, 2]),  # no silence at all
        ([1, 2, 1, 2, 2], [0, 0]),
        ([0, 0, 5, 6], [2]),
        ([0, 0, 0], []),
        ([3, 4, 0, 0, 0, 3, 4], [1, 1]),
    ],
)
def test_words_are_heard_in_the_order_in_which_they_are_said(path, words):
    logits = sure(path)
    assert hear(hand_made(), logits, np.array([len(path)]), penalty=0.0) == [words]


def test_strings_of_any_length_are_heard_together():
    paths = [[0, 1, 2, 0, 3, 4], [5, 6, 0]]
    logits = np.full((2, 6, 7), 9.0, dtype=np.float32)  # what stands behind the shorter one must not count
    for row, path in enumerate(paths):
        logits[row, : len(path)] = sure(path)[0]
    assert hear(hand_made(), logits, np.array([6, 3]), penalty=0.0) == [[0, 1], [2]]


def test_a_penalty_hears_fewer_words():
    """Of noise, which is as much a word as any other."""
    logits = np.random.default_rng(0).normal(size=(1, 60, 7)).astype(np.float32)
    counts = [len(hear(hand_made(), logits, np.array([60]), penalty)[0]) for penalty in (0.0, 2.0, 5.0, 1e6)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1] == 0


def test_a_loop_that_may_be_walked_once_is_a_single_word(speech: Speech):
    """With a penalty that lets no second word be worth it, strings of one word are what single recordings are."""
    spoken, logits = speech.said[2], gaussian_logits(speech, 2)
    best = word_scores(speech.models, logits, spoken.lengths).argmax(axis=1)
    for row, each in enumerate(np.split(logits, np.cumsum(spoken.lengths)[:-1])):
        heard = hear(speech.models, each[None], np.array([len(each)]), penalty=300.0)
        assert heard == [[best[row]]]


def test_tunes_are_heard_in_strings(speech: Speech):
    """Strings have filter banks alone: the states' mean ones stand in for a network."""
    means = np.stack([speech.train.inputs[speech.train.labels == state, BEFORE].mean(axis=0) for state in range(81)])
    strings = join(speech.corpus.test, length=3, most=10)
    wrong = 0
    for string in strings:
        distance = ((string.frames[:, None] - means) ** 2).mean(axis=2)
        logits = (-8 * distance + speech.models.log_prior).astype(np.float32)
        (heard,) = hear(speech.models, logits[None], np.array([len(logits)]), penalty=10.0)
        wrong += int(word_errors([string.words], [heard], "x").errors_N[0])
    assert wrong <= 0.2 * 3 * len(strings)
