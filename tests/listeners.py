"""Tiny models that hear: a linear graph knows each of five tones by the middle frame of a window, and four tunes are
words of three states each. Nothing is trained: the weights are what a Gaussian around each tone's filter banks has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.inputs.filterbanks import filterbanks
from service.inputs.hmm import WordModels, save_word_models
from service.inputs.spoken import padded
from service.manifest import AudioSpec
from tests.recordings import RATE, TUNES, tone, tune
from tests.repositories import gemm_graph, write_model

WORDS = ("do", "re", "mi", "fa")
AUDIO = AudioSpec(rate=RATE, before=3, after=1)
FRAMES, FILTERS = 100, 20
NARROW = 0.02
"""How much a frame's squared distance from a tone counts."""


def tone_frames() -> NDArray[np.float32]:
    """The filter banks [6, F] of silence and of five tones, from one recording of all of them."""
    second = RATE // 4
    sounds = [np.zeros(second, dtype=np.float32), *(tone(500 * 1.35**index, 0.25) for index in range(5))]
    noise = np.random.default_rng(0).normal(scale=0.005, size=6 * second)
    frames_TF = filterbanks((np.concatenate(sounds) + noise).astype(np.float32), RATE, FILTERS)
    return np.stack([frames_TF[25 * index + 5 : 25 * index + 20].mean(axis=0) for index in range(6)])


def word_models(scale: float = 0.2) -> WordModels:
    """Silence, and three states of each word; a frame stays in nine of ten cases."""
    states = 1 + 3 * len(WORDS)
    log_prior = np.full(states, -np.log(states), dtype=np.float32)
    log_stay, log_leave = (np.full(states, np.log(share), dtype=np.float32) for share in (0.9, 0.1))
    return WordModels(WORDS, log_prior, log_stay, log_leave, scale)


def weights(noise: float = 0.0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Of a window's [W F] numbers for the states, and the bias [S]; only the frame in the middle counts."""
    tones = tone_frames()
    means_SF = np.stack([tones[0], *(tones[1 + each] for word in range(len(WORDS)) for each in TUNES[word])])
    means_SF = means_SF + noise * np.random.default_rng(1).normal(size=means_SF.shape)
    matrix_WFS = np.zeros((AUDIO.before + 1 + AUDIO.after, FILTERS, len(means_SF)), dtype=np.float32)
    matrix_WFS[AUDIO.before] = 2 * NARROW * means_SF.T
    return matrix_WFS.reshape(-1, len(means_SF)), (-NARROW * (means_SF**2).sum(axis=1)).astype(np.float32)


def recordings(seeds: range) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Every word with each seed as a model takes it, [N, T, F], and which word it is, [N]."""
    heard = [(filterbanks(tune(word, seed), RATE, FILTERS), word) for seed in seeds for word in range(len(WORDS))]
    return padded([frames for frames, _ in heard], FRAMES), np.array([word for _, word in heard])


def write_listener(root: Path, name: str = "tunes-student", *, noise: float = 0.0, **more: Any) -> Path:
    """<root>/<name>/1/; with `noise` it errs now and then. `more` goes to `write_model`."""
    graph = gemm_graph((AUDIO.before + 1 + AUDIO.after, FILTERS), *weights(noise))
    given = {"word_models": save_word_models(word_models()), "graph": graph, "held_out": recordings(range(10))}
    return write_model(root, name, classes=WORDS, shape=(FRAMES, FILTERS), audio=AUDIO, **(given | more))
