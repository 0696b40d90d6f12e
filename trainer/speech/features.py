"""Recordings as features: filter banks for the networks, cepstra for the alignment. It knows no models.

Legend: N recordings, T frames of one, F filters, D cepstra.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import kaldi_native_fbank as knf
import numpy as np
from numpy.typing import NDArray

from service.errors import InputError
from service.inputs.audio import read_samples
from service.inputs.filterbanks import extract, filterbanks, set_frames
from trainer.errors import DataError
from trainer.speech.corpus import RATE, Recording

FILTERS = 40
LONGEST_S = 3.0
"""A recording is of one word, and as long as those that are served."""


class Spoken(NamedTuple):
    """N recordings: filter banks [T, F] and cepstra [T, D] of each, the word it says and who says it."""

    frames: list[NDArray[np.float32]]
    cepstra: list[NDArray[np.float32]]
    words_N: NDArray[np.int64]
    speakers: tuple[str, ...]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of frames of each, [N]."""
        return np.array([len(frames_TF) for frames_TF in self.frames])

    def only(self, kept: Sequence[int] | NDArray[np.integer]) -> Spoken:
        """Some of them, by their indices."""
        chosen = [int(index) for index in kept]
        return Spoken(
            [self.frames[index] for index in chosen],
            [self.cepstra[index] for index in chosen],
            self.words_N[chosen],
            tuple(self.speakers[index] for index in chosen),
        )


def read_spoken(recordings: Sequence[Recording], told: Callable[[int], None] = lambda _done: None) -> Spoken:
    """The features of recordings; `told` hears after each how many are done. Raises DataError for one that cannot be
    heard."""
    frames, cepstra = [], []
    for done, recording in enumerate(recordings, 1):
        samples = read_recording(recording.path)
        try:
            frames.append(filterbanks(samples, RATE, FILTERS))
        except InputError as error:
            raise DataError(f"{recording.path}: {error}") from error
        cepstra.append(cepstra_of(samples))
        told(done)
    words_N = np.array([recording.word for recording in recordings], dtype=np.int64)
    return Spoken(frames, cepstra, words_N, tuple(recording.speaker for recording in recordings))


def read_recording(path: Path) -> NDArray[np.float32]:
    """Its samples [S] at RATE. Raises DataError."""
    try:
        return read_samples(path.read_bytes(), RATE, LONGEST_S)
    except InputError as error:
        raise DataError(f"{path}: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def cepstra_of(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """13 Mel-frequency cepstral coefficients, less their mean over the recording, with their first and second
    differences: [T, 39]."""
    options = knf.MfccOptions()
    options.use_energy = False
    cepstra_TD = extract(knf.OnlineMfcc(set_frames(options, RATE)), samples, RATE)
    differences: NDArray[np.float32] = knf.compute_deltas(knf.DeltaOptions(), cepstra_TD - cepstra_TD.mean(axis=0))
    return differences
