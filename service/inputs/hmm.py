"""Words as hidden Markov models, and which of them a recording says, in numpy. It knows no audio and no networks.

A word is a chain of states, left to right; a frame stays in its state or goes on to the next. Silence, state 0 of all,
may stand before a word and after it. A network gives p(state | frame); divided by p(state) that is, but for a factor
of the frame alone, the likelihood of the frame (Bourlard and Morgan 1994).

Legend: N recordings, T frames, S states, W words, L states of a word, C = L + 2 states of a chain with its silences.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from service.errors import ModelError

Lengths = Sequence[int] | NDArray[np.int64]
"""Frames of each of N recordings."""
KEYS = ("words", "log_prior", "log_stay", "log_leave", "scale")


@dataclasses.dataclass(frozen=True)
class WordModels:
    """W words of L states each behind the one state of silence, S = 1 + W L.

    `log_prior` [S] is each state's share of the training frames; `log_stay` and `log_leave` [S] are of a frame's
    staying and going on. Scores times `scale` are the logits of a distribution over the words.
    """

    words: tuple[str, ...]
    log_prior: NDArray[np.float32]
    log_stay: NDArray[np.float32]
    log_leave: NDArray[np.float32]
    scale: float

    @cached_property
    def chains(self) -> NDArray[np.int64]:
        """The states of each word between two silences, [W, C]."""
        return word_chains(len(self.words), (len(self.log_prior) - 1) // len(self.words))

    @property
    def shortest(self) -> int:
        """Frames that a word needs: one for each of its states."""
        return int(self.chains.shape[1]) - 2

    def scaled(self, scale: float) -> WordModels:
        """The same with another scale."""
        return dataclasses.replace(self, scale=scale)

    def log_likelihoods(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """log p(frame | state) but for a term of the frame alone, from a network's logits [..., S]."""
        return np.asarray(logits - self.log_prior, dtype=np.float32)

    def logits(self, logits_NTS: NDArray[np.float32], lengths_N: Lengths) -> NDArray[np.float32]:
        """Those of a distribution over the words, [N, W], from those of the states of each frame; recordings of fewer
        than T frames are padded with anything."""
        return np.float32(self.scale) * self.scores(self.log_likelihoods(logits_NTS), lengths_N)

    def scores(self, emissions_NTS: NDArray[np.float32], lengths_N: Lengths) -> NDArray[np.float32]:
        """The log-likelihood of each word's best path [N, W]."""
        emissions_TNWC = emissions_NTS[:, :, self.chains].transpose(1, 0, 2, 3)
        lengths_N1 = np.asarray(lengths_N)[:, None]
        log_stay, log_leave = self.log_stay[self.chains], self.log_leave[self.chains]
        scores_NW: NDArray[np.float32] = ends(viterbi(emissions_TNWC, log_stay, log_leave, lengths_N1)).max(axis=-1)
        return scores_NW


def word_chains(words: int, states: int) -> NDArray[np.int64]:
    """The states [W, C] of each of so many words with so many states, between two silences."""
    own = 1 + states * np.arange(words)[:, None] + np.arange(states)
    return np.pad(own, ((0, 0), (1, 1)))


def viterbi(
    emissions_TC: NDArray[np.float32],
    log_stay_C: NDArray[np.float32],
    log_leave_C: NDArray[np.float32],
    lengths: NDArray[np.int64],
    moved_TC: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """The log-likelihood [..., C] of the best path to each state at the last frame (Viterbi 1967), for emissions
    [T, ..., C] of frames of which `lengths` [...] count.

    A path begins in either of the first two states. `moved_TC`, as large as the emissions, is told which states were
    reached from the one before.
    """
    reached: NDArray[np.float32] = emissions_TC[0].copy()
    reached[..., 2:] = -np.inf
    before = np.full_like(reached, -np.inf)
    for t in range(1, len(emissions_TC)):
        stays = reached + log_stay_C
        before[..., 1:] = (reached + log_leave_C)[..., :-1]
        going = (t < lengths)[..., None]
        if moved_TC is not None:
            np.logical_and(before > stays, going, out=moved_TC[t])
        reached = np.where(going, np.maximum(stays, before) + emissions_TC[t], reached)
    return reached


def ends(reached_C: NDArray[np.float32]) -> NDArray[np.float32]:
    """Those states in which a path may end, the last of the word and the silence behind it, [..., 2]."""
    last: NDArray[np.float32] = reached_C[..., -2:]
    return last


def save_word_models(models: WordModels) -> bytes:
    """`hmm.npz`."""
    file = io.BytesIO()
    np.savez(file, **{key: getattr(models, key) for key in KEYS})
    return file.getvalue()


def read_word_models(raw: bytes, place: str) -> WordModels:
    """`hmm.npz`, checked. Raises ModelError, which names the `place`."""
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as file:
            arrays = {key: file[key] for key in KEYS}
    except Exception as error:  # numpy and zipfile raise a dozen kinds on what is no .npz
        raise ModelError(f"{place}: is no file of the arrays {', '.join(KEYS)}: {error}") from error
    words, scale = arrays.pop("words"), arrays.pop("scale")
    shapes = {array.shape for array in arrays.values()}
    states = next(iter(arrays.values())).size - 1
    sound = words.ndim == 1 and words.dtype.kind == "U" and len(words) and scale.ndim == 0
    sound = sound and {array.dtype.kind for array in (*arrays.values(), scale)} <= {"f", "i"}
    if not sound or shapes != {(states + 1,)} or not states or states % len(words):
        raise ModelError(
            f"{place}: holds words {list(words.shape)} and arrays {sorted(map(list, shapes))}, expected W words and "
            "arrays of 1 + W × L states"
        )
    prior, stay, leave = (np.asarray(array, dtype=np.float32) for array in arrays.values())
    if not all(np.isfinite(array).all() for array in (prior, stay, leave, scale)) or scale <= 0:
        raise ModelError(f"{place}: holds numbers that are not finite, or a scale that is not above 0")
    if any((array > 0).any() for array in (prior, stay, leave)):
        raise ModelError(f"{place}: holds logarithms above 0, expected those of probabilities")
    return WordModels(tuple(map(str, words)), prior, stay, leave, float(scale))
