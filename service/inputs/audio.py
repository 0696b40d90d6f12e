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
LOUDEST = 1e4
"""Full scale is 1: what is far above it is no sound, and its square is no number."""
MOMENT_S, QUIET_DB, KEPT_S = 0.01, 35.0, 0.3
"""Chosen on recordings of two corpora between silences and noise of up to 3 s (see `endpointed`)."""
UNKNOWN = 2**40
"""Samples from which on a header's length means that it was not known when the file was begun."""


def read_samples(raw: bytes, rate: int, most_s: float) -> NDArray[np.float32]:
    """The samples [S] of one recording at `rate` a second, full scale from -1 to 1.

    Raises MalformedError (no WAV or FLAC, cut short, empty), TooLargeError (over `most_s` seconds) and InputError
    (samples that are no numbers).
    """
    channels_SC, own = _decode(raw, most_s)
    if not len(channels_SC):
        raise MalformedError("audio: the recording is empty, expected sound")
    if not (np.abs(channels_SC) <= LOUDEST).all():  # NaN is not
        raise InputError("audio: the recording holds NaN, infinity or huge samples, expected them from -1 to 1")
    samples: NDArray[np.float32] = channels_SC.mean(axis=1)
    if np.ptp(samples) < 1e-3 * np.ptp(channels_SC):
        samples = channels_SC[:, 0].copy()  # channels in antiphase, as a balanced microphone gives them
    if own != rate:
        samples = soxr.resample(samples, own, rate)
    return samples


def endpointed(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """The samples [S] without most of the quiet before and behind what is loud, as recordings of a corpus are cut: a
    model has heard no word between long silences, and frames without any noise have an energy of their own.

    What is more than QUIET_DB below the loudest moment is quiet; KEPT_S of it stay, but no run of equal samples.
    """
    moment = max(1, round(MOMENT_S * rate))
    moments = samples[: len(samples) // moment * moment].reshape(-1, moment).astype(np.float64)
    power = ((moments - samples.mean()) ** 2).mean(axis=1)
    if not power.any():
        return samples
    loud = np.flatnonzero(power > power.max() * 10 ** (-QUIET_DB / 10))
    kept = round(KEPT_S / MOMENT_S)
    cut = samples[max(0, loud[0] - kept) * moment : (loud[-1] + 1 + kept) * moment]
    changes = np.flatnonzero(np.diff(cut))
    return cut[changes[0] : changes[-1] + 2]


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
    if file.frames > UNKNOWN:
        raise MalformedError("audio: the file does not say how long it is, expected a whole WAV or FLAC file")
    if file.channels > MOST_CHANNELS:
        raise MalformedError(f"audio: got {file.channels} channels, expected at most {MOST_CHANNELS}")
