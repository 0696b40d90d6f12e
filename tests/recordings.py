"""Recordings that the tests make: words are tunes of three tones, so that everything about them is known."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE = 8_000
TUNES = list(itertools.permutations(range(5), 3))[::6]
"""Which of five tones each word consists of."""
SPEAKERS = ("george", "jackson", "lucas", "theo", "yweweler")


def tone(hertz: float, seconds: float, rate: int = RATE) -> NDArray[np.float32]:
    """Half of full scale."""
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def tune(word: int, seed: int, pitch: float = 1.0, silence_s: float = 0.1) -> NDArray[np.float32]:
    """Word 0 to 9 with noise under it and before and behind it; its tones have lengths of their own every time."""
    draws = np.random.default_rng([word, seed])
    tones = 500 * pitch * 1.35 ** np.array(TUNES[word])
    sound = np.concatenate([tone(hertz, draws.uniform(0.08, 0.16)) for hertz in tones])
    quiet = np.zeros(round(silence_s * RATE), dtype=np.float32)
    whole = np.concatenate([quiet, sound, quiet])
    return (whole + draws.normal(scale=0.005, size=len(whole))).astype(np.float32)


def encoded(samples: NDArray, rate: int = RATE, *, kind: str = "WAV", subtype: str | None = None) -> bytes:
    """The bytes of a file; samples [S] or [S, channels]."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


def write_digits(data_dir: Path, each: int = 3, words: int = 10) -> Path:
    """A folder of data with `fsdd/recordings/`, so many of each word by each speaker; each has a pitch of his own."""
    folder = data_dir / "fsdd" / "recordings"
    folder.mkdir(parents=True)
    for voice, speaker in enumerate(SPEAKERS):
        for word in range(words):
            for index in range(each):
                samples = tune(word, 100 * voice + index, pitch=1 + 0.02 * voice)
                (folder / f"{word}_{speaker}_{index}.wav").write_bytes(encoded(samples))
    return data_dir
