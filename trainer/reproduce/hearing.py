"""What networks for frames are worth: frames, words by themselves, and words in strings, on speakers never heard.

It knows word models and parts of a corpus, not how networks were trained. Legend: N frames, S states.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from service.inputs.filterbanks import windows
from service.inputs.spoken import padded
from trainer.ensemble import predict
from trainer.reproduce.lab import Lab
from trainer.reproduce.speech_plan import Plan
from trainer.speech.corpus import Recording
from trainer.speech.features import Spoken
from trainer.speech.frames import AFTER, BEFORE, Speech
from trainer.speech.loop import hear
from trainer.speech.strings import String, join
from trainer.speech.words import WordErrors, word_errors, word_scores

AT_ONCE = 40
"""Strings that are heard at one time."""


class Heard(NamedTuple):
    """Of one network, or of an ensemble: % of test frames whose state is right; word errors of single recordings and of
    strings; and what a word cost in those, chosen on validation."""

    frames: float
    words: WordErrors
    strings: WordErrors
    penalty: float


class Hearing:
    """Recordings and strings of validation and test."""

    def __init__(self, lab: Lab, speech: Speech, plan: Plan) -> None:
        self.lab, self.speech, self.plan = lab, speech, plan

    @cached_property
    def validation_strings(self) -> list[String]:
        """For choosing the penalty."""
        return self._strings(self.speech.corpus.validation)

    @cached_property
    def test_strings(self) -> list[String]:
        """For the word error rate."""
        return self._strings(self.speech.corpus.test)

    def of(self, network: nn.Module) -> Heard:
        """Everything about one network, or an ensemble, on the test part."""
        test, spoken = self.speech.test, self.speech.said[2]
        logits_NS = self.lab.logits(network, test)
        frames = 100.0 * float((logits_NS.argmax(axis=1) == test.labels).mean())
        penalty = self._penalty(network)
        (strings,) = self._heard(network, self.test_strings, [penalty])
        return Heard(frames, self.words(logits_NS, spoken), strings, penalty)

    def words(self, logits_NS: NDArray[np.float32], spoken: Spoken) -> WordErrors:
        """Errors in single recordings, from the logits of the states of all their frames."""
        best_N = word_scores(self.speech.models, logits_NS, spoken.lengths).argmax(axis=1)
        return word_errors(spoken.words_N[:, None].tolist(), best_N[:, None].tolist(), spoken.speakers)

    def _penalty(self, network: nn.Module) -> float:
        """The one with the lowest word error rate on validation; of equals, the lowest."""
        found = self._heard(network, self.validation_strings, self.plan.penalties)
        return min(zip(self.plan.penalties, found, strict=True), key=lambda pair: (pair[1].rate, pair[0]))[0]

    def _heard(self, network: nn.Module, strings: Sequence[String], penalties: Sequence[float]) -> list[WordErrors]:
        """Word errors with each penalty; the network is asked once."""
        heard: list[list[list[int]]] = [[] for _ in penalties]
        for start in range(0, len(strings), AT_ONCE):
            some = strings[start : start + AT_ONCE]
            logits = [self._logits(network, each) for each in some]
            lengths_N = np.array([len(each.frames) for each in some])
            logits_NTS = padded(logits)
            for said, penalty in zip(heard, penalties, strict=True):
                said += hear(self.speech.models, logits_NTS, lengths_N, penalty)
        right = [each.words for each in strings]
        return [word_errors(right, said, [each.speaker for each in strings]) for said in heard]

    def _logits(self, network: nn.Module, string: String) -> NDArray[np.float32]:
        inputs = torch.from_numpy(windows(string.frames, BEFORE, AFTER))
        return predict(network, inputs.to(self.lab.workshop.device)).numpy()

    def _strings(self, recordings: Sequence[Recording]) -> list[String]:
        return join(recordings, self.plan.length, self.plan.strings)
