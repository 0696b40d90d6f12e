"""Which state each frame belongs to, from nothing but the words: single Gaussians on cepstra, re-estimated by Viterbi.

A flat start divides what is loud in a recording evenly among the states of its word; then, in rounds, Gaussians are
fitted to the frames of each state, and the best path through the word takes the place of the division (Rabiner 1989,
section VI). It knows features and chains of states, not networks.

Legend: N recordings, T frames, S states, C states of a chain, D cepstra.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.inputs.hmm import ends, viterbi, word_chains
from service.inputs.spoken import padded
from trainer.speech.features import Spoken

STATES = 8
"""Of a word."""
ROUNDS = 15
LOUD = 0.5
"""Where a word begins and ends at first: this far from the quiet of a recording to its loudest, in the first cepstrum.
Chosen on validation, as was SHARED."""
SHARED = 0.2
"""The share that the mean of all states' variances has in each: a state of few frames is too sure of itself."""
AT_ONCE = 500
"""Recordings whose emissions are in memory at one time."""

Alignment = list[NDArray[np.int64]]
"""The state [T] of each frame of each recording."""


class Gaussians(NamedTuple):
    """One for each state, with a diagonal covariance, and how likely a frame is to stay in its state; all [S, ...]."""

    mean_SD: NDArray[np.float64]
    variance_SD: NDArray[np.float64]
    log_stay: NDArray[np.float32]
    log_leave: NDArray[np.float32]

    def log_likelihoods(self, cepstra: NDArray[np.float32]) -> NDArray[np.float32]:
        """log p(frame | state) [..., S] of cepstra [..., D]."""
        precision = 1.0 / self.variance_SD
        of_squares, of_values = (-0.5 * precision).T, (self.mean_SD * precision).T
        constant = -0.5 * (np.log(2 * np.pi * self.variance_SD) + self.mean_SD**2 * precision).sum(axis=1)
        both = np.concatenate([of_squares, of_values]).astype(np.float32)
        found: NDArray[np.float32] = np.concatenate([cepstra**2, cepstra], axis=-1) @ both
        return found + constant.astype(np.float32)


class Aligned(NamedTuple):
    """What came of it: the Gaussians and, by round, the mean log-likelihood of a frame."""

    gaussians: Gaussians
    log_likelihood: list[float]


def train_gaussians(
    train: Spoken, words: int, rounds: int = ROUNDS, told: Callable[[int], None] = lambda _done: None
) -> Aligned:
    """Gaussians of the 1 + 8 `words` states, from recordings of the words; `told` hears after each round how many
    are done."""
    chains_NC = word_chains(words, STATES)[train.words_N]
    paths = [flat_start(cepstra_TD) for cepstra_TD in train.cepstra]
    history = []
    for done in range(1, rounds + 1):
        states = [chain_C[path] for chain_C, path in zip(chains_NC, paths, strict=True)]
        gaussians = fit_gaussians(train.cepstra, states, 1 + STATES * words)
        paths, score = _best_paths(gaussians, train.cepstra, chains_NC)
        history.append(score / int(train.lengths.sum()))
        told(done)
    return Aligned(gaussians, history)


def align(gaussians: Gaussians, spoken: Spoken, words: int) -> Alignment:
    """The best path through the word that each recording says."""
    chains_NC = word_chains(words, STATES)[spoken.words_N]
    paths, _ = _best_paths(gaussians, spoken.cepstra, chains_NC)
    return [chain_C[path] for chain_C, path in zip(chains_NC, paths, strict=True)]


def flat_start(cepstra_TD: NDArray[np.float32]) -> NDArray[np.int64]:
    """The place [T] of each frame in its chain: silence before the first loud frame and behind the last, and in
    between the states of the word evenly."""
    loudness_T = cepstra_TD[:, 0]
    quiet, loudest = np.percentile(loudness_T, [10, 95])
    loud = np.flatnonzero(loudness_T >= quiet + LOUD * (loudest - quiet))
    first, behind = int(loud[0]), int(loud[-1]) + 1
    evenly = 1 + np.floor(STATES * (np.arange(len(cepstra_TD)) - first) / (behind - first))
    return evenly.clip(0, STATES + 1).astype(np.int64)


def fit_gaussians(cepstra: Sequence[NDArray[np.float32]], states: Alignment, total: int) -> Gaussians:
    """The likeliest Gaussians of each state's frames, their variances drawn towards the mean of all; a state without
    frames has the mean and the variance of all of them."""
    all_TD, all_T = np.concatenate(cepstra).astype(np.float64), np.concatenate(states)
    count_S1 = np.bincount(all_T, minlength=total)[:, None]
    mean_SD = _sums(all_T, all_TD, total) / np.maximum(count_S1, 1)
    variance_SD = _sums(all_T, (all_TD - mean_SD[all_T]) ** 2, total) / np.maximum(count_S1, 1)
    shared_D = (variance_SD * count_S1).sum(axis=0) / len(all_T)
    variance_SD = (1 - SHARED) * variance_SD + SHARED * shared_D
    empty_S1 = count_S1 == 0
    mean_SD = np.where(empty_S1, all_TD.mean(axis=0), mean_SD)
    variance_SD = np.where(empty_S1, all_TD.var(axis=0), variance_SD)
    return Gaussians(mean_SD, variance_SD, *_transitions(states, total))


def _sums(states_T: NDArray[np.int64], values_TD: NDArray[np.float64], total: int) -> NDArray[np.float64]:
    return np.stack([np.bincount(states_T, column, total) for column in values_TD.T], axis=1)


def _transitions(states: Alignment, total: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """log p(stay) and log p(leave) of each state, with one of either seen before (Laplace)."""
    before = np.concatenate([states_T[:-1] for states_T in states])
    after = np.concatenate([states_T[1:] for states_T in states])
    stays = np.bincount(before[before == after], minlength=total)
    share = (stays + 1) / (np.bincount(before, minlength=total) + 2)
    return np.log(share).astype(np.float32), np.log1p(-share).astype(np.float32)


def _best_paths(
    gaussians: Gaussians, cepstra: Sequence[NDArray[np.float32]], chains_NC: NDArray[np.int64]
) -> tuple[Alignment, float]:
    """The place of each frame in its recording's chain, and the sum of the log-likelihoods of all paths."""
    paths: Alignment = []
    total = 0.0
    for start in range(0, len(cepstra), AT_ONCE):
        some, chains = cepstra[start : start + AT_ONCE], chains_NC[start : start + AT_ONCE]
        emissions_NTS = gaussians.log_likelihoods(padded(some))
        emissions_NTC = np.take_along_axis(emissions_NTS, chains[:, None, :], axis=2)
        lengths_N = np.array([len(each) for each in some])
        emissions_TNC = emissions_NTC.transpose(1, 0, 2)
        moved_TNC = np.zeros(emissions_TNC.shape, dtype=np.bool_)
        stay, leave = gaussians.log_stay[chains], gaussians.log_leave[chains]
        ends_N2 = ends(viterbi(emissions_TNC, stay, leave, lengths_N, moved_TNC))
        total += float(ends_N2.max(axis=1).sum())
        paths += _traced(moved_TNC, ends_N2.argmax(axis=1) - 2 + chains.shape[1], lengths_N)
    return paths, total


def _traced(moved_TNC: NDArray[np.bool_], last_N: NDArray[np.int64], lengths_N: NDArray[np.int64]) -> Alignment:
    """The paths that end in these places, backwards."""
    place_N, rows = last_N, np.arange(len(last_N))
    path_TN = np.empty(moved_TNC.shape[:2], dtype=np.int64)
    for t in range(len(moved_TNC) - 1, -1, -1):  # behind a recording's end nothing has moved
        path_TN[t] = place_N
        place_N = place_N - moved_TNC[t, rows, place_N]
    return [path_TN[:length, row] for row, length in enumerate(lengths_N)]
