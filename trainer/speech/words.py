"""What recordings say by the answers to their frames, and how often that is wrong. It knows logits, not networks.

Legend: N recordings, S states, W words, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import jiwer
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.stats import norm, t

from service import measures
from service.inputs.hmm import WordModels
from service.inputs.spoken import padded

AT_ONCE = 100
"""Recordings that are decoded at one time."""
RESAMPLES = 10_000

Said = Sequence[Sequence[int]]
"""The words of each recording, by their indices."""


class WordErrors(NamedTuple):
    """Of each recording: substitutions, deletions and insertions together, and how many words it has; who says it."""

    errors_N: NDArray[np.int64]
    words_N: NDArray[np.int64]
    speakers: Sequence[str]

    @property
    def rate(self) -> float:
        """Word error rate in %."""
        return 100.0 * float(self.errors_N.sum() / self.words_N.sum())


class Interval(NamedTuple):
    """A value and its 95 % interval, in points of word error rate; of one speaker there is none."""

    value: float
    low: float | None
    high: float | None


def word_scores(models: WordModels, logits_FS: NDArray[np.float32], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
    """The logits of the words [N, W], from those of the states of all frames, recording by recording."""
    each = np.split(logits_FS, np.cumsum(lengths)[:-1])
    blocks = [slice(start, start + AT_ONCE) for start in range(0, len(each), AT_ONCE)]
    return np.concatenate([models.logits(padded(each[block]), lengths[block]) for block in blocks])


def calibrated(
    models: WordModels, logits_FS: NDArray[np.float32], lengths: NDArray[np.int64], words_N: NDArray
) -> WordModels:
    """The models with the scale at which the words' probabilities have the lowest NLL: neighbouring frames are no
    independent evidence, so that scores by themselves are far too sure."""
    scores_NW = word_scores(models, logits_FS, lengths) / models.scale

    def nll(log_scale: float) -> float:
        log_p_NW = measures.log_softmax(np.exp(log_scale) * scores_NW)
        return -float(log_p_NW[np.arange(len(words_N)), words_N].mean())

    found = minimize_scalar(nll, bounds=(np.log(1e-3), np.log(10.0)), method="bounded")
    return models.scaled(float(np.exp(found.x)))


def word_errors(said: Said, heard: Said, speakers: Sequence[str]) -> WordErrors:
    """By the alignment with the fewest errors, of each recording."""
    pairs = [jiwer.process_words(_text(right), _text(found)) for right, found in zip(said, heard, strict=True)]
    errors = [pair.substitutions + pair.deletions + pair.insertions for pair in pairs]
    return WordErrors(np.array(errors), np.array([len(words) for words in said]), speakers)


def _text(words: Sequence[int]) -> str:
    """A word of text for each, without the spaces and signs that a word's own name may have."""
    return " ".join(map(str, words))


def of_speakers(errors: WordErrors) -> Interval:
    """The word error rate, with an interval over speakers: few are heard, and they differ more than their words do."""
    return _interval(*_by_speaker(errors))


def difference(errors: WordErrors, other: WordErrors, *, over_speakers: bool) -> Interval:
    """How much higher the first rate is than the second on the same recordings, with an interval over those or over
    their speakers."""
    more = errors._replace(errors_N=errors.errors_N - other.errors_N)
    return _interval(*(_by_speaker(more) if over_speakers else (more.errors_N, more.words_N)))


def _by_speaker(errors: WordErrors) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Errors and words of each speaker."""
    names, which_N = np.unique(np.array(errors.speakers), return_inverse=True)
    sums = [np.bincount(which_N, counts, len(names)).astype(np.int64) for counts in (errors.errors_N, errors.words_N)]
    return sums[0], sums[1]


def _interval(errors_U: NDArray[np.int64], words_U: NDArray[np.int64]) -> Interval:
    """sum(errors) / sum(words) in %, and percentiles of it over U units drawn anew: only how often each pair of values
    occurs matters. They are widened as few units need it (Hesterberg 2015): of six speakers plain ones hold the truth
    in 87 of 100 cases."""
    pairs, counts = np.unique(np.stack([errors_U, words_U]), axis=1, return_counts=True)
    units, value = len(words_U), 100.0 * float(errors_U.sum() / words_U.sum())
    if units < 2:
        return Interval(value, None, None)
    drawn_RV = np.random.default_rng(0).multinomial(units, counts / units, size=RESAMPLES)
    ends = 100.0 * np.percentile((drawn_RV @ pairs[0]) / (drawn_RV @ pairs[1]), [2.5, 97.5])
    wider = t.ppf(0.975, units - 1) / norm.ppf(0.975) * math.sqrt(units / (units - 1))
    low, high = (value + wider * float(end - value) for end in ends)
    return Interval(value, low, high)
