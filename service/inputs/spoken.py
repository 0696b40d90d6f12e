"""What a graph that classifies frames says of whole recordings. It knows arrays and word models, not sound or sessions.

Legend: B recordings, T frames of the longest one, F filters, W words, N frames of some recordings, S states.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from service import measures
from service.inputs.filterbanks import windows
from service.inputs.hmm import WordModels
from service.manifest import AudioSpec

AT_ONCE = 16
"""Recordings whose windows are in memory at one time."""

LOUDEST = 1e3
"""Log energies are far within; of numbers far beyond a network may make none."""

Frames = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Windows [N, ...] -> logits of the states [N, S]."""


def word_log_p(
    frames: Frames, inputs_BTF: NDArray[np.float32], audio: AudioSpec, words: WordModels
) -> NDArray[np.float32]:
    """The logarithm of the probability of each word [B, W] in recordings that are filled up with frames of zeros."""
    blocks = [inputs_BTF[start : start + AT_ONCE] for start in range(0, len(inputs_BTF), AT_ONCE)]
    return np.concatenate([_block(frames, block, audio, words) for block in blocks])


def _block(frames: Frames, inputs_BTF: NDArray[np.float32], audio: AudioSpec, words: WordModels) -> NDArray[np.float32]:
    lengths_B = np.maximum(lengths(inputs_BTF), words.shortest)
    inputs_BTF = inputs_BTF.clip(-LOUDEST, LOUDEST)
    there = [frames_TF[:length] for frames_TF, length in zip(inputs_BTF, lengths_B, strict=True)]
    cut = [windows(frames_TF, audio.before, audio.after) for frames_TF in there]
    logits_NS = frames(np.concatenate(cut))
    logits_BTS = padded(np.split(logits_NS, np.cumsum(lengths_B)[:-1]))
    return measures.log_softmax(words.logits(logits_BTS, lengths_B)).astype(np.float32)


def lengths(inputs_BTF: NDArray[np.float32]) -> NDArray[np.int64]:
    """Frames of each recording, [B]: all but those of zeros at its end."""
    there_BT: NDArray[np.bool_] = (inputs_BTF != 0).any(axis=2)
    last_B = there_BT.shape[1] - there_BT[:, ::-1].argmax(axis=1)
    return np.where(there_BT.any(axis=1), last_B, 0)


def padded(arrays: Sequence[NDArray[np.float32]], frames: int | None = None) -> NDArray[np.float32]:
    """Arrays [T, ...] of any lengths as one [B, T, ...], with zeros behind the shorter ones: as long as the longest, or
    of so many frames."""
    longest = max(map(len, arrays)) if frames is None else frames
    together = np.zeros((len(arrays), longest, *arrays[0].shape[1:]), dtype=np.float32)
    for row, array in zip(together, arrays, strict=True):
        row[: len(array)] = array
    return together
