"""From samples to what a frame classifier sees: log-Mel filter banks, and windows of them. No torch, no files.

Frames of 25 ms every 10 ms, as the paper's section 4 has them, by kaldi-native-fbank, without dither so that the same
samples give the same numbers. Legend: S samples, T frames, F filters, W frames of a window.
"""

from __future__ import annotations

from typing import Any

import kaldi_native_fbank as knf
import numpy as np
from numpy.typing import NDArray

from service.errors import InputError

FRAME_MS, SHIFT_MS = 25.0, 10.0
SIXTEEN_BITS = 32768.0
"""Kaldi's filter banks are of samples as 16-bit numbers."""


def filterbanks(samples: NDArray[np.float32], rate: int, filters: int) -> NDArray[np.float32]:
    """Log energies [T, F] of Mel-scaled filters, less their mean over the recording, so that its loudness and the
    colour of its microphone do not count.

    Raises InputError for less than one frame, and for silence without any noise, of which all frames are alike.
    """
    lasts_ms = 1000 * len(samples) / rate
    if lasts_ms < FRAME_MS:
        raise InputError(f"audio: the recording lasts {lasts_ms:g} ms, expected at least {FRAME_MS:g}")
    if not np.ptp(samples):
        raise InputError("audio: the recording is silent: all of its samples are equal")
    options = knf.FbankOptions()
    options.mel_opts.num_bins = filters
    frames_TF = extract(knf.OnlineFbank(set_frames(options, rate)), samples, rate)
    centred: NDArray[np.float32] = frames_TF - frames_TF.mean(axis=0)
    return centred


def set_frames(options: Any, rate: int) -> Any:
    """Options of any kind of feature, with how samples are cut into frames."""
    options.frame_opts.samp_freq = rate
    options.frame_opts.frame_length_ms = FRAME_MS
    options.frame_opts.frame_shift_ms = SHIFT_MS
    options.frame_opts.dither = 0.0
    return options


def extract(extractor: Any, samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """What an extractor makes of a whole recording, [T, features]."""
    extractor.accept_waveform(rate, samples * SIXTEEN_BITS)
    extractor.input_finished()
    return np.stack([extractor.get_frame(index) for index in range(extractor.num_frames_ready)])


def windows(frames_TF: NDArray[np.float32], before: int, after: int) -> NDArray[np.float32]:
    """Each frame with so many before and after it, [T, W, F]; at either end the outermost frame is repeated."""
    padded = np.pad(frames_TF, ((before, after), (0, 0)), mode="edge")
    view_TFW = np.lib.stride_tricks.sliding_window_view(padded, before + 1 + after, axis=0)
    return np.ascontiguousarray(view_TFW.transpose(0, 2, 1))
