"""From the bytes of a WAV or FLAC file to what a model takes that was trained on recordings.

It knows sound, and of a model only its manifest. It does not look for the word: all of a recording becomes frames.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from service.errors import InputError
from service.inputs.audio import endpointed, read_samples
from service.inputs.filterbanks import SHIFT_MS, filterbanks
from service.inputs.spoken import padded
from service.manifest import AudioSpec, Manifest

SHORTEST_S = 0.1
"""No word is shorter."""


def read_recording(raw: bytes, manifest: Manifest) -> NDArray[np.float32]:
    """One recording as the model of that manifest takes it: float32 [1, frames, filters], with frames of zeros behind
    its own.

    Raises InputError (no such input, no sound in it), MalformedError (no recording), TooLargeError (too long).
    """
    audio = manifest.input.audio
    if audio is None:
        raise InputError(
            f"{manifest.name} takes no recordings: send JSON with inputs of shape {list(manifest.input.shape)}"
        )
    return decode_recording(raw, manifest.input.shape, audio)[None]


def decode_recording(raw: bytes, shape: tuple[int, ...], audio: AudioSpec) -> NDArray[np.float32]:
    """One recording as frames, float32 [frames, filters] of that shape. Raises as `read_recording`."""
    most, filters = shape
    samples = endpointed(read_samples(raw, audio.rate, most * SHIFT_MS / 1000), audio.rate)
    if len(samples) < SHORTEST_S * audio.rate:
        lasts_ms = 1000 * len(samples) / audio.rate
        raise InputError(f"audio: the sound lasts {lasts_ms:g} ms, expected at least {1000 * SHORTEST_S:g} for a word")
    frames: NDArray[np.float32] = padded([filterbanks(samples, audio.rate, filters)], most)[0]
    return frames
