"""Which words a string of them says: the best path through a loop over all words, with silence where there is some.

It knows word models and the answers to frames, not networks or sound. Every state carries the frame at which the word
before its own ended (token passing; Young, Russell and Thornton 1989).

Legend: N strings, T frames, S states, W words, L states of a word.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.inputs.hmm import WordModels

NOTHING = -1
"""Where no word has ended yet."""


class Tokens(NamedTuple):
    """Of the best path to each state of the words [N, W, L] and to silence [N]: the score, when its last word ended."""

    words: NDArray[np.float32]
    words_since: NDArray[np.int64]
    silence: NDArray[np.float32]
    silence_since: NDArray[np.int64]


class Ended(NamedTuple):
    """Of the word that ended best at each frame [T, N]: which it is, and when the one before it ended."""

    word: NDArray[np.int64]
    before: NDArray[np.int64]


def hear(
    models: WordModels, logits_NTS: NDArray[np.float32], lengths_N: NDArray[np.int64], penalty: float
) -> list[list[int]]:
    """The words of each string, of which so many frames count. Each word costs `penalty`, so that a long one is not
    heard as several short ones."""
    emissions_TNS = models.log_likelihoods(logits_NTS).transpose(1, 0, 2)
    tokens = _begin(models, emissions_TNS[0], penalty)
    ended = Ended(*(np.full(emissions_TNS.shape[:2], NOTHING) for _ in range(2)))
    heard: list[list[int]] = [[] for _ in lengths_N]
    for t in range(len(emissions_TNS)):
        tokens = _step(models, tokens, emissions_TNS[t], penalty, ended, t) if t else tokens
        for row in np.flatnonzero(lengths_N == t + 1):
            heard[row] = _words(tokens, ended, int(row))
    return heard


def _begin(models: WordModels, emissions_NS: NDArray[np.float32], penalty: float) -> Tokens:
    states_WL = models.chains[:, 1:-1]
    words = np.full((len(emissions_NS), *states_WL.shape), -np.inf, dtype=np.float32)
    words[:, :, 0] = emissions_NS[:, states_WL[:, 0]] - penalty
    nothing = np.full(words.shape, NOTHING)
    return Tokens(words, nothing, emissions_NS[:, 0], nothing[:, 0, 0])


def _step(
    models: WordModels, tokens: Tokens, emissions_NS: NDArray[np.float32], penalty: float, ended: Ended, t: int
) -> Tokens:
    """One frame further; which word ended best at the frame before is written down."""
    states_WL, rows = models.chains[:, 1:-1], np.arange(len(emissions_NS))
    left = tokens.words + models.log_leave[states_WL]
    ended.word[t - 1] = left[:, :, -1].argmax(axis=1)
    ended.before[t - 1] = tokens.words_since[rows, ended.word[t - 1], -1]
    end_N = left[rows, ended.word[t - 1], -1]

    from_silence_N = tokens.silence + models.log_leave[0]
    enter_N = np.maximum(end_N, from_silence_N) - penalty
    enter_since_N = np.where(end_N > from_silence_N, t - 1, tokens.silence_since)
    moved, moved_since = np.empty_like(left), np.empty_like(tokens.words_since)
    moved[:, :, 0], moved_since[:, :, 0] = enter_N[:, None], enter_since_N[:, None]
    moved[:, :, 1:], moved_since[:, :, 1:] = left[:, :, :-1], tokens.words_since[:, :, :-1]

    stayed = tokens.words + models.log_stay[states_WL]
    quiet_N = tokens.silence + models.log_stay[0]
    return Tokens(
        np.maximum(stayed, moved) + emissions_NS[:, states_WL],
        np.where(moved > stayed, moved_since, tokens.words_since),
        np.maximum(quiet_N, end_N) + emissions_NS[:, 0],
        np.where(end_N > quiet_N, t - 1, tokens.silence_since),
    )


def _words(tokens: Tokens, ended: Ended, row: int) -> list[int]:
    """Backwards from the best end of a string: of a word, or of the silence behind one."""
    last = int(tokens.words[row, :, -1].argmax())
    words, since = [], int(tokens.silence_since[row])
    if tokens.words[row, last, -1] > tokens.silence[row]:
        words, since = [last], int(tokens.words_since[row, last, -1])
    while since != NOTHING:
        words.append(int(ended.word[since, row]))
        since = int(ended.before[since, row])
    return words[::-1]
