"""Filter banks against Kaldi's formulas in numpy, and windows against Kaldi's own."""

from __future__ import annotations

import kaldi_native_fbank as knf
import numpy as np
import pytest

from service.errors import InputError
from service.inputs.filterbanks import filterbanks, windows
from tests.recordings import RATE, tone, tune


def kaldi(samples: np.ndarray, filters: int) -> np.ndarray:
    """As Kaldi's documentation has it: frames, no DC, pre-emphasis, Povey's window, power spectrum, Mel triangles."""
    size, shift, points = 200, 80, 256
    starts = range(0, len(samples) - size + 1, shift)
    frames = np.stack([samples[start : start + size] * 32768.0 for start in starts]).astype(np.float64)
    frames -= frames.mean(axis=1, keepdims=True)
    frames -= 0.97 * np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    frames *= (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / (size - 1))) ** 0.85
    power = np.abs(np.fft.rfft(frames, points)) ** 2

    def mel(hertz: np.ndarray | float) -> np.ndarray:
        return 1127.0 * np.log(1.0 + np.asarray(hertz) / 700.0)

    edges = np.linspace(mel(20.0), mel(RATE / 2), filters + 2)
    bins = mel(np.arange(points // 2) * RATE / points)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    energies = power[:, : points // 2] @ np.clip(np.minimum(rising, falling), 0, None).T
    log = np.log(np.maximum(energies, np.finfo(np.float32).eps))
    return log - log.mean(axis=0)


@pytest.mark.parametrize("filters", [23, 40])
def test_filter_banks_are_those_of_kaldis_formulas(filters):
    samples = tune(3, seed=0)
    assert np.abs(filterbanks(samples, RATE, filters) - kaldi(samples, filters)).max() < 2e-3


def test_loudness_does_not_count():
    """Nor does whatever a microphone does to all of a recording."""
    samples = tune(3, seed=0)
    assert np.abs(filterbanks(samples, RATE, 40) - filterbanks(0.1 * samples, RATE, 40)).max() < 1e-3


def test_the_same_samples_give_the_same_numbers():
    samples = tune(3, seed=0)
    assert np.array_equal(filterbanks(samples, RATE, 40), filterbanks(samples, RATE, 40))


def test_windows_are_kaldis():
    """At either end the outermost frame is repeated."""
    frames_TF = filterbanks(tune(3, seed=0), RATE, 40)
    ours_TWF = windows(frames_TF, before=20, after=5)
    theirs = knf.splice_frames(frames_TF, knf.SpliceOptions(left_context=20, right_context=5))
    assert ours_TWF.shape == (len(frames_TF), 26, 40)
    assert np.array_equal(ours_TWF.reshape(len(frames_TF), -1), theirs)
    assert np.array_equal(ours_TWF[:, 20], frames_TF)


def test_the_shortest_recording_is_one_frame():
    assert filterbanks(tone(440, 0.025), RATE, 40).shape == (1, 40)
    with pytest.raises(InputError, match=r"^audio: the recording lasts 24\.5 ms, expected at least 25$"):
        filterbanks(tone(440, 0.0245), RATE, 40)


@pytest.mark.parametrize("level", [0.0, 0.25])
def test_silence_without_noise_is_refused(level):
    with pytest.raises(InputError, match=r"^audio: the recording is silent: all of its samples are equal$"):
        filterbanks(np.full(RATE, level, dtype=np.float32), RATE, 40)


def test_silence_before_a_word_is_finite():
    samples = np.concatenate([np.zeros(RATE, dtype=np.float32), tune(3, seed=0)])
    assert np.isfinite(filterbanks(samples, RATE, 40)).all()
