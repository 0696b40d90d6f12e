"""Sound files become samples: any rate, any channels, WAV and FLAC, and nothing else."""

from __future__ import annotations

import contextlib
import io
import time

import numpy as np
import pytest
import soundfile

from service.errors import InputError, MalformedError, TooLargeError
from service.inputs.audio import endpointed, read_samples
from tests.recordings import RATE, encoded, tone, tune

SOUND = tone(440, 0.5)
OGG, AIFF = (encoded(SOUND, kind=kind) for kind in ("OGG", "AIFF"))


@pytest.mark.parametrize(
    ("kind", "subtype", "tolerance"),
    [
        ("WAV", "PCM_16", 1e-4),
        ("WAV", "PCM_24", 1e-6),
        ("WAV", "FLOAT", 0),
        ("WAV", "PCM_U8", 1e-2),
        ("WAV", "ULAW", 2e-2),
        ("WAVEX", "PCM_16", 1e-4),
        ("FLAC", "PCM_16", 1e-4),
        ("FLAC", "PCM_24", 1e-6),
    ],
)
def test_the_samples_of_every_encoding_come_back(kind, subtype, tolerance):
    sent = tone(440, 0.5)
    got = read_samples(encoded(sent, kind=kind, subtype=subtype), RATE, 10)
    assert got.dtype == np.float32
    assert np.abs(got - sent).max() <= tolerance


@pytest.mark.parametrize("rate", [4_000, 11_025, 16_000, 44_100, 48_000])
def test_another_rate_is_resampled(rate):
    """A tone stays the tone that it is, at its strength."""
    got = read_samples(encoded(tone(440, 1.0, rate), rate), RATE, 10)
    assert abs(len(got) - RATE) <= 1
    inner = slice(RATE // 10, -RATE // 10)  # a filter has edges
    assert np.abs(got[inner] - tone(440, 1.0)[: len(got)][inner]).max() < 5e-3


def test_what_lies_above_half_the_rate_does_not_fold_back():
    got = read_samples(encoded(tone(7_000, 1.0, 44_100), 44_100), RATE, 10)
    assert np.abs(got[800:-800]).max() < 1e-3


def test_channels_become_their_mean():
    stereo = np.stack([tone(440, 0.5), tone(880, 0.5)], axis=1)
    assert np.allclose(read_samples(encoded(stereo), RATE, 10), stereo.mean(axis=1), atol=1e-4)


def test_a_clipped_recording_is_a_recording():
    got = read_samples(encoded(np.clip(10 * tone(440, 0.5), -1, 1)), RATE, 10)
    assert np.abs(got).max() == pytest.approx(1.0, abs=1e-3)


def test_what_is_no_wav_or_flac_is_refused():
    """By its first bytes, before any parser sees it, and by its header, before memory is taken for what that says."""
    cases = [
        (b"", "got 0 bytes that are no recording, expected a WAV or FLAC file"),
        (b"hello" * 100, "got 500 bytes that are no recording, expected a WAV or FLAC file"),
        (OGG, f"got {len(OGG)} bytes that are no recording, expected a WAV or FLAC file"),
        (AIFF, f"got {len(AIFF)} bytes that are no recording, expected a WAV or FLAC file"),
        (
            b"RIFF" + bytes(40),
            "got 44 bytes of a damaged recording (Format not recognised), expected a whole WAV or FLAC",
        ),
        (encoded(np.zeros((800, 33))), "got 33 channels, expected at most 32"),
        (encoded(SOUND[:0]), "the recording is empty, expected sound"),
        (encoded(SOUND, 1_000), "got 1000 samples a second, expected 4,000 to 384,000"),
    ]
    for raw, message in cases:
        with pytest.raises(MalformedError) as found:
            read_samples(raw, RATE, 10)
        assert str(found.value).startswith(f"audio: {message}")


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_a_file_that_was_cut_short_is_read_as_far_as_it_goes_or_refused(kind):
    """Never anything else, wherever it was cut; of FLAC's blocks none is whole here but the last."""
    raw = encoded(tone(440, 0.2), kind=kind)
    lengths = []
    for end in range(0, len(raw), 7):
        with contextlib.suppress(InputError):
            lengths.append(len(read_samples(raw[:end], RATE, 10)))
    assert bool(lengths) == (kind == "WAV")
    assert all(0 < length <= 1600 for length in lengths)


def test_an_hour_is_refused_before_it_is_decoded():
    raw = encoded(np.zeros(3600 * RATE, dtype=np.int16), kind="FLAC")
    started = time.perf_counter()
    with pytest.raises(TooLargeError, match=r"^audio: the recording lasts 3600\.0 s, expected at most 10 s$"):
        read_samples(raw, RATE, 10)
    assert time.perf_counter() - started < 1


def test_a_recording_of_the_very_longest_is_taken():
    assert len(read_samples(encoded(tone(440, 10.0)), RATE, 10)) == 10 * RATE
    with pytest.raises(TooLargeError, match=r"lasts 10\.0 s, expected at most 10 s$"):
        read_samples(encoded(np.zeros(10 * RATE + 1)), RATE, 10)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused(bad):
    sound = tone(440, 0.1)
    sound[7] = bad
    with pytest.raises(InputError, match=r"^audio: the recording holds NaN, infinity or huge samples, expected them"):
        read_samples(encoded(sound, subtype="FLOAT"), RATE, 10)


def test_a_header_that_promises_too_much_is_not_believed():
    """Nor is memory taken for what it promises."""
    raw = bytearray(encoded(tone(440, 0.5)))
    raw[40:44] = (2**31 - 1).to_bytes(4, "little")  # the size of the data
    with soundfile.SoundFile(io.BytesIO(bytes(raw))) as file:
        assert file.frames <= RATE * 2**20
    assert len(read_samples(bytes(raw), RATE, 10)) == RATE // 2


def quiet(seconds: float, level: float, seed: int = 0) -> np.ndarray:
    """Noise."""
    noise = np.random.default_rng(seed).normal(scale=level, size=round(seconds * RATE))
    return noise.astype(np.float32)


@pytest.mark.parametrize("seconds", [0.05, 0.3, 1.0])
def test_silence_without_noise_around_a_word_goes(seconds):
    """However much of it there is: what is left is the recording as it was."""
    word = tune(3, seed=0)
    around = np.zeros(round(seconds * RATE), dtype=np.float32)
    got = endpointed(np.concatenate([around, word, around]), RATE)
    assert abs(len(got) - len(word)) <= 2 * RATE // 100
    assert np.isin(got, [*word, 0.0]).all()


def test_noise_around_a_word_is_cut_to_a_little():
    word = tune(3, seed=0)
    got = endpointed(np.concatenate([quiet(1.2, 0.005), word, quiet(1.2, 0.005, seed=1)]), RATE)
    loud_s = len(word) / RATE - 0.2
    assert len(got) / RATE == pytest.approx(loud_s + 0.6, abs=0.03)


def test_a_recording_that_is_cut_already_stays_as_it_is():
    word = tune(3, seed=0)
    assert len(word) - len(endpointed(word, RATE)) < RATE // 100
    hum = np.full(RATE, 0.25, dtype=np.float32)
    assert np.array_equal(endpointed(hum, RATE), hum)  # for the features to refuse


def test_channels_in_antiphase_are_heard():
    """As a balanced microphone gives them; their mean would be silence."""
    stereo = np.stack([SOUND, -SOUND], axis=1)
    assert np.allclose(read_samples(encoded(stereo), RATE, 10), SOUND, atol=1e-4)


@pytest.mark.parametrize("factor", [1e5, 1e18, 1e35])
def test_huge_samples_are_refused(factor):
    """Their squares are no numbers any more."""
    raw = encoded((factor * SOUND).astype(np.float64), subtype="DOUBLE")
    with pytest.raises(InputError, match=r"^audio: the recording holds NaN, infinity or huge samples, expected them"):
        read_samples(raw, RATE, 10)


def test_a_file_that_does_not_know_its_length_is_told():
    """FLAC from a pipe."""
    raw = bytearray(encoded(SOUND, kind="FLAC"))
    raw[21] &= 0xF0  # STREAMINFO's 36 bits of samples in all, which may be 0: unknown
    raw[22:26] = bytes(4)
    with pytest.raises(MalformedError, match=r"^audio: the file does not say how long it is, expected a whole WAV or"):
        read_samples(bytes(raw), RATE, 10)
