"""Recordings of single words by many speakers, none of whom is in two parts. It knows files, not sound."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from trainer.errors import DataError

CORPORA = ARABIC, FSDD = "arabic_speech_commands", "fsdd"
RATE = 8_000
"""Samples a second of both; a release of 16 kHz is resampled."""
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
HELD_OUT = {"theo": "validation", "yweweler": "test"}
"""The speakers of the digits that are not trained on: the release names no parts."""
LISTS = {"train": "train.csv", "validation": "val.csv", "test": "test.csv"}


class Recording(NamedTuple):
    """One word, an index into the corpus's words, said by a speaker."""

    path: Path
    word: int
    speaker: str


class Corpus(NamedTuple):
    """Recordings of three parts, and the words that are in them."""

    name: str
    words: tuple[str, ...]
    train: Sequence[Recording]
    validation: Sequence[Recording]
    test: Sequence[Recording]


def read_corpus(name: str, data_dir: Path | None) -> Corpus:
    """The recordings in `<data_dir>/<name>/`, as they are published.

    Raises DataError: no such corpus or folder, files that are missing, a speaker in two parts, a word without training.
    """
    readers = {ARABIC: _read_arabic, FSDD: _read_digits}
    if name not in readers:
        raise DataError(f"no corpus {name!r}; expected {' or '.join(readers)}")
    if data_dir is None or not (folder := data_dir / name).is_dir():
        found = "no folder of data is given" if data_dir is None else f"{data_dir} has no folder {name}"
        raise DataError(
            f"{name}: {found}, and nothing is downloaded; put the release, as it is, into DIR/{name} and pass "
            "--data-dir DIR, or set STILLROOM_DATA=DIR"
        )
    try:
        corpus = readers[name](folder)
    except OSError as error:
        raise DataError(f"{name}: cannot read {error.filename}: {error.strerror}") from error
    _check(corpus)
    return corpus


def few_of_each(corpus: Corpus, most: int) -> Corpus:
    """At most so many recordings of each word by each speaker."""
    train, validation, test = (_first(part, most) for part in (corpus.train, corpus.validation, corpus.test))
    return corpus._replace(train=train, validation=validation, test=test)


def _first(recordings: Sequence[Recording], most: int) -> list[Recording]:
    seen: Counter[tuple[int, str]] = Counter()
    kept = []
    for recording in recordings:
        seen[recording.word, recording.speaker] += 1
        if seen[recording.word, recording.speaker] <= most:
            kept.append(recording)
    return kept


def _read_arabic(folder: Path) -> Corpus:
    """Arabic Speech Commands (Ghandoura, Hjabo and Al Dakkak 2021), by the lists of its own three parts."""
    listed = {part: _read_list(folder / file) for part, file in LISTS.items()}
    words = tuple(sorted({word for rows in listed.values() for _, word in rows}))
    parts = {
        part: [Recording(_either(folder / file), words.index(word), _speaker(file)) for file, word in rows]
        for part, rows in listed.items()
    }
    return Corpus(ARABIC, words, **parts)


def _read_list(path: Path) -> list[tuple[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"file", "class"} <= rows[0].keys():
        raise DataError(f"{path}: expected rows with the columns file and class")
    return [(row["file"], row["class"]) for row in rows]


def _either(path: Path) -> Path:
    """The release has WAV files, copies of it FLAC; a list of one stands for the other too."""
    return path if path.exists() else path.with_suffix({".wav": ".flac", ".flac": ".wav"}.get(path.suffix, path.suffix))


def _speaker(file: str) -> str:
    """`00000014` of `dataset/yes/00000014_NO_01.wav`."""
    return Path(file).name.partition("_")[0]


def _read_digits(folder: Path) -> Corpus:
    """The Free Spoken Digit Dataset: `recordings/<digit>_<speaker>_<index>.wav`."""
    parts: dict[str, list[Recording]] = {"train": [], "validation": [], "test": []}
    for path in sorted((folder / "recordings").iterdir()):
        if found := re.fullmatch(r"(\d)_([a-z]+)_\d+\.wav", path.name):
            speaker = found[2]
            parts[HELD_OUT.get(speaker, "train")].append(Recording(path, int(found[1]), speaker))
    return Corpus(FSDD, DIGITS, **parts)


def _check(corpus: Corpus) -> None:
    parts = {"train": corpus.train, "validation": corpus.validation, "test": corpus.test}
    missing = [recording.path for part in parts.values() for recording in part if not recording.path.is_file()]
    if missing:
        raise DataError(f"{corpus.name}: {len(missing)} recordings are missing, the first is {missing[0]}")
    seen: dict[str, str] = {}
    for part, recordings in parts.items():
        if not recordings:
            raise DataError(f"{corpus.name}: no recordings to be the {part} part")
        for speaker in {recording.speaker for recording in recordings}:
            if seen.setdefault(speaker, part) != part:
                raise DataError(f"{corpus.name}: speaker {speaker} is in {seen[speaker]} and in {part}")
    untrained = sorted(set(range(len(corpus.words))) - {recording.word for recording in corpus.train})
    if untrained:
        raise DataError(f"{corpus.name}: no training recording of {', '.join(corpus.words[k] for k in untrained)}")
