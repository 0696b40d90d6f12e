"""A corpus as the trainer takes it: windows of filter banks, and the state of the frame that each is about.

It knows features and alignments, not networks. Legend: N recordings, T frames, W frames of a window, F filters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from service.inputs.filterbanks import windows
from service.inputs.hmm import WordModels
from trainer.data.split import Part, Split
from trainer.display import Display
from trainer.speech.align import ROUNDS, STATES, Alignment, Gaussians, align, train_gaussians
from trainer.speech.corpus import Corpus, Recording
from trainer.speech.features import FILTERS, Spoken, read_spoken

BEFORE, AFTER = 20, 5
"""Frames of a window around the one that it is about: 26, of which that is the 21st (section 4)."""


@dataclass(frozen=True)
class Speech(Split):
    """Frames as examples, of which each part's come recording by recording; the recordings; and the words' models.

    The classes are the states: silence, and those of each word. `models` have the states' shares of the training frames
    and the Gaussians' transitions; their scale is 1.
    """

    corpus: Corpus
    models: WordModels
    gaussians: Gaussians
    said: tuple[Spoken, Spoken, Spoken]
    """Of training, validation and test."""


def load_speech(corpus: Corpus, display: Display | None = None) -> Speech:
    """Reads and aligns all recordings: seconds for a thousand; a display shows how far it is. Raises DataError."""
    display = display or Display(Console(quiet=True))
    train, validation, test = (_read(part, display) for part in (corpus.train, corpus.validation, corpus.test))
    words = len(corpus.words)
    with display.stage("alignment", ROUNDS) as advance:
        gaussians = train_gaussians(train, words, told=lambda done: advance(done, "")).gaussians
    states = [align(gaussians, spoken, words) for spoken in (train, validation, test)]
    parts = [_part(spoken, each) for spoken, each in zip((train, validation, test), states, strict=True)]
    return Speech(
        name=corpus.name,
        classes=state_names(corpus.words),
        image=None,
        train=parts[0],
        validation=parts[1],
        test=parts[2],
        corpus=corpus,
        models=_models(corpus, gaussians, parts[0]),
        gaussians=gaussians,
        said=(train, validation, test),
    )


def state_names(words: Sequence[str]) -> tuple[str, ...]:
    """`silence`, and `yes 1` to `yes 8` for each word."""
    return ("silence", *(f"{word} {state}" for word in words for state in range(1, STATES + 1)))


def _read(recordings: Sequence[Recording], display: Display) -> Spoken:
    with display.stage("recordings", len(recordings)) as advance:
        return read_spoken(recordings, told=lambda done: advance(done, ""))


def _part(spoken: Spoken, states: Alignment) -> Part:
    """All frames of a part, [sum of T, W, F]: written into one array, of which two would be too many."""
    lengths = spoken.lengths
    inputs = np.empty((int(lengths.sum()), BEFORE + 1 + AFTER, FILTERS), dtype=np.float32)
    for frames_TF, end in zip(spoken.frames, np.cumsum(lengths), strict=True):
        inputs[end - len(frames_TF) : end] = windows(frames_TF, BEFORE, AFTER)
    return Part(inputs, np.concatenate(states))


def _models(corpus: Corpus, gaussians: Gaussians, train: Part) -> WordModels:
    """With the states' shares of the training frames, each seen once more than it was."""
    count_S = np.bincount(train.labels, minlength=len(gaussians.log_stay)) + 1
    log_prior = np.log(count_S / count_S.sum()).astype(np.float32)
    return WordModels(corpus.words, log_prior, gaussians.log_stay, gaussians.log_leave, scale=1.0)
