"""Strings of words: recordings of one speaker, joined with pauses. It knows samples, not what is heard in them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.inputs.filterbanks import filterbanks
from trainer.speech.corpus import RATE, Recording
from trainer.speech.features import FILTERS, read_recording

PAUSES_S = (0.1, 0.5)
QUIETEST_S = 0.03


class String(NamedTuple):
    """Some words that a speaker says: their indices, and the filter banks [T, F] of all of it."""

    words: tuple[int, ...]
    speaker: str
    frames: NDArray[np.float32]


def join(recordings: Sequence[Recording], length: int, most: int, seed: int = 0) -> list[String]:
    """Strings of `length` words, of one speaker each, from recordings in an order drawn anew: about `most` of them, as
    many of every speaker. Raises DataError where a recording cannot be heard."""
    draws = np.random.default_rng(seed)
    speakers = sorted({recording.speaker for recording in recordings})
    strings = []
    for speaker in speakers:
        own = [recording for recording in recordings if recording.speaker == speaker]
        order = draws.permutation(len(own))
        for start in range(0, min(len(own) // length, -(-most // len(speakers))) * length, length):
            chosen = [own[index] for index in order[start : start + length]]
            samples = _joined([read_recording(recording.path) for recording in chosen], draws)
            words = tuple(recording.word for recording in chosen)
            strings.append(String(words, speaker, filterbanks(samples, RATE, FILTERS)))
    return strings


def _joined(sounds: Sequence[NDArray[np.float32]], draws: np.random.Generator) -> NDArray[np.float32]:
    """With pauses of noise as loud as the quietest moment of the sound before."""
    parts = [sounds[0]]
    for before, sound in itertools.pairwise(sounds):
        moment = round(QUIETEST_S * RATE)
        moments = before[: len(before) // moment * moment].reshape(-1, moment)
        quietest = float(moments.std(axis=1).min())
        pause = draws.normal(scale=quietest, size=round(draws.uniform(*PAUSES_S) * RATE))
        parts += [pause.astype(np.float32), sound]
    return np.concatenate(parts)
