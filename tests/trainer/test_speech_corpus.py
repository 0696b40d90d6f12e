"""Corpora as they are published, divided by speakers, and their recordings as features."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.recordings import encoded, tone, tune, write_digits
from trainer.errors import DataError
from trainer.speech.corpus import read_corpus
from trainer.speech.features import FILTERS, cepstra_of, read_recording, read_spoken

LISTED = {"train.csv": ("00000001", "00000002"), "val.csv": ("00000003",), "test.csv": ("00000004",)}


def write_commands(data_dir: Path, kind: str = "wav", rate: int = 16_000) -> Path:
    """Two words by four speakers, in the layout of Arabic Speech Commands."""
    folder = data_dir / "arabic_speech_commands"
    for file, speakers in LISTED.items():
        names = [(f"dataset/{word}/{speaker}_NO_01.wav", word) for word in ("yes", "no") for speaker in speakers]
        for name, word in names:
            path = (folder / name).with_suffix(f".{kind}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(tone(440 if word == "yes" else 660, 1.0, rate), rate, kind=kind.upper()))
        with (folder / file).open("w", newline="") as handle:
            csv.writer(handle).writerows([("file", "class"), *names])
    return data_dir


@pytest.mark.parametrize(("kind", "rate"), [("wav", 16_000), ("flac", 8_000)])
def test_arabic_speech_commands_are_divided_as_published(tmp_path, kind, rate):
    """The release has WAV files of 16 kHz; a smaller copy has FLAC of 8."""
    corpus = read_corpus("arabic_speech_commands", write_commands(tmp_path, kind, rate))
    assert corpus.words == ("no", "yes")
    parts = (corpus.train, corpus.validation, corpus.test)
    assert [[(each.word, each.speaker) for each in part] for part in parts] == [
        [(1, "00000001"), (1, "00000002"), (0, "00000001"), (0, "00000002")],
        [(1, "00000003"), (0, "00000003")],
        [(1, "00000004"), (0, "00000004")],
    ]
    spoken = read_spoken(corpus.train)
    assert spoken.lengths.tolist() == [98] * 4
    assert {frames.shape for frames in spoken.frames} == {(98, FILTERS)}


def test_digits_hold_two_speakers_out(tmp_path):
    corpus = read_corpus("fsdd", write_digits(tmp_path, each=2))
    assert corpus.words[3] == "three"
    assert {each.speaker for each in corpus.train} == {"george", "jackson", "lucas"}
    assert {each.speaker for each in corpus.validation} == {"theo"}
    assert {each.speaker for each in corpus.test} == {"yweweler"}
    assert (len(corpus.train), len(corpus.validation), len(corpus.test)) == (60, 20, 20)


def test_what_is_wrong_with_a_corpus_is_said(tmp_path):
    with pytest.raises(DataError, match=r"^no corpus 'timit'; expected arabic_speech_commands or fsdd$"):
        read_corpus("timit", tmp_path)
    with pytest.raises(
        DataError, match=r"^fsdd: no folder of data is given, and nothing is downloaded; put the release"
    ):
        read_corpus("fsdd", None)
    with pytest.raises(
        DataError, match=r"^fsdd: .* has no folder fsdd, and nothing is downloaded; put the release, as"
    ):
        read_corpus("fsdd", tmp_path)
    folder = write_commands(tmp_path) / "arabic_speech_commands"
    (folder / "dataset/no/00000003_NO_01.wav").unlink()
    with pytest.raises(DataError, match=r"^arabic_speech_commands: 1 recordings are missing, the first is .*\.flac$"):
        read_corpus("arabic_speech_commands", tmp_path)
    (folder / "val.csv").write_text((folder / "train.csv").read_text())
    with pytest.raises(DataError, match=r"^arabic_speech_commands: speaker 0000000\d is in train and in validation$"):
        read_corpus("arabic_speech_commands", tmp_path)
    (folder / "val.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"val\.csv: expected rows with the columns file and class$"):
        read_corpus("arabic_speech_commands", tmp_path)
    (folder / "val.csv").unlink()
    with pytest.raises(DataError, match=r"^arabic_speech_commands: cannot read .*val\.csv: No such file or directory$"):
        read_corpus("arabic_speech_commands", tmp_path)


def test_every_part_and_every_word_must_be_there(tmp_path):
    folder = write_digits(tmp_path, each=1) / "fsdd" / "recordings"
    for path in folder.glob("7_*.wav"):
        if "theo" not in path.name:
            path.unlink()
    with pytest.raises(DataError, match=r"^fsdd: no training recording of seven$"):
        read_corpus("fsdd", tmp_path)
    for path in folder.glob("*_theo_*.wav"):
        path.unlink()
    with pytest.raises(DataError, match=r"^fsdd: no recordings to be the validation part$"):
        read_corpus("fsdd", tmp_path)
    shutil.rmtree(folder)
    with pytest.raises(DataError, match=r"^fsdd: cannot read .*recordings: No such file or directory$"):
        read_corpus("fsdd", tmp_path)


def test_a_recording_that_cannot_be_heard_is_named(tmp_path):
    path = write_digits(tmp_path, each=1) / "fsdd" / "recordings" / "0_george_0.wav"
    first = read_corpus("fsdd", tmp_path).train[:1]
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"0_george_0\.wav: audio: got 7 bytes that are no recording"):
        read_spoken(first)
    path.write_bytes(encoded(np.zeros(8_000)))
    with pytest.raises(DataError, match=r"0_george_0\.wav: audio: the recording is silent"):
        read_spoken(first)
    path.write_bytes(encoded(tone(440, 3.5)))
    with pytest.raises(DataError, match=r"0_george_0\.wav: audio: the recording lasts 3\.5 s, expected at most 3 s$"):
        read_spoken(first)
    path.unlink()
    with pytest.raises(DataError, match=r"0_george_0\.wav: cannot be read: No such file or directory$"):
        read_recording(path)


def test_cepstra_have_their_differences_beside_them():
    """Kaldi's regression over two frames to either side."""
    cepstra_TD = cepstra_of(tune(3, seed=0))
    plain, once, twice = cepstra_TD[:, :13], cepstra_TD[:, 13:26], cepstra_TD[:, 26:]
    assert np.abs(plain.mean(axis=0)).max() < 1e-4
    inner = range(4, len(plain) - 4)
    slope = [(2 * (plain[t + 2] - plain[t - 2]) + plain[t + 1] - plain[t - 1]) / 10 for t in inner]
    curve = [(2 * (once[t + 2] - once[t - 2]) + once[t + 1] - once[t - 1]) / 10 for t in inner]
    assert np.allclose(once[4:-4], slope, atol=1e-4)
    assert np.allclose(twice[4:-4], curve, atol=1e-4)
