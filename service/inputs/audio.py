"""From the bytes of a WAV or FLAC file to samples at the rate that a model hears. It knows sound files, not features.

A recording becomes one channel, the mean of its channels, by libsndfile; another rate is resampled by soxr.
"""

from __future__ import annotations

import io

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from service.errors import InputError, MalformedError, TooLargeError

BEGINNINGS = (b"RIFF", b"RF64", b"fLaC")
"""Of the files that are taken: libsndfile would read a dozen formats more, whose parsers strangers need not reach."""
SLOWEST, FASTEST = 4_000, 384_000
"""Samples a second; what lies outside is no recording of speech, and a header may say anything."""
MOST_CHANNELS = 32


def read_samples(raw: bytes, rate: int, most_s: float) -> NDArray[np.float32]:
    """The samples [S] of one recording at `rate` a second, full scale from -1 to 1.

    Raises MalformedError (no WAV or FLAC, cut short, empty), TooLargeError (over `most_s` seconds) and InputError
    (samples that are no numbers).
    """
    channels_SC, own = _decode(raw, most_s)
    if not len(channels_SC):
        raise MalformedError("audio: the recording is empty, expected sound")
    if not np.isfinite(channels_SC).all():
        raise InputError("audio: the recording holds NaN or infinity, expected samples from -1 to 1")
    samples: NDArray[np.float32] = channels_SC.mean(axis=1)
    if own != rate:
        samples = soxr.resample(samples, own, rate)
    return samples


def _decode(raw: bytes, most_s: float) -> tuple[NDArray[np.float32], int]:
    """Channels [S, C] and their rate; no more is decoded than may be long enough."""
    if not raw.startswith(BEGINNINGS):
        raise MalformedError(f"audio: got {len(raw)} bytes that are no recording, expected a WAV or FLAC file")
    try:
        with soundfile.SoundFile(io.BytesIO(raw)) as file:
            _check(file)
            most = int(most_s * file.samplerate)
            channels_SC = file.read(most + 1, dtype="float32", always_2d=True)  # a header may lie about its length
            if len(channels_SC) > most:
                told = f"{file.frames / file.samplerate:.1f}" if file.frames > most else f"over {most_s:g}"
                raise TooLargeError(f"audio: the recording lasts {told} s, expected at most {most_s:g} s")
            return channels_SC, int(file.samplerate)
    except soundfile.LibsndfileError as error:
        raise MalformedError(
            f"audio: got {len(raw)} bytes of a damaged recording ({error.error_string.rstrip('.')}), "
            "expected a whole WAV or FLAC file"
        ) from error


def _check(file: soundfile.SoundFile) -> None:
    """Before memory is taken for what the header says."""
    if not SLOWEST <= file.samplerate <= FASTEST:
        raise MalformedError(f"audio: got {file.samplerate} samples a second, expected {SLOWEST:,} to {FASTEST:,}")
    if file.channels > MOST_CHANNELS:
        raise MalformedError(f"audio: got {file.channels} channels, expected at most {MOST_CHANNELS}")
