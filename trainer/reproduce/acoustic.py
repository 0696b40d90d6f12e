"""The ten acoustic models, their ensemble, and the students that learn from it: what they are, and what they are worth.

It knows how they are trained and judged, not which rows there are. Legend: N frames, S states.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from torch import Tensor, nn

from trainer.answers import teacher_of
from trainer.ensemble import Ensemble
from trainer.objectives import Distilling, hard
from trainer.reproduce.hearing import Heard, Hearing
from trainer.reproduce.lab import Lab
from trainer.reproduce.rows import Measured
from trainer.reproduce.speech_plan import Plan
from trainer.speech.frames import Speech
from trainer.speech.words import difference, of_speakers
from trainer.stages import Trained

MEMBERS, STUDENTS = 0, 5_000
"""The first seeds of each kind of network."""


class Acoustic:
    """All of them over one lab, trained and heard when they are asked for."""

    def __init__(self, lab: Lab, speech: Speech, plan: Plan) -> None:
        self.lab, self.speech, self.plan = lab, speech, plan
        self.hearing = Hearing(lab, speech, plan)

    @cached_property
    def members(self) -> Trained:
        """Alike but for their initial weights and the order of their examples."""
        seeds = range(MEMBERS, MEMBERS + self.plan.members.members)
        return self.lab.train("members", self.plan.members, seeds, hard, self.lab.workshop.train)

    @cached_property
    def together(self) -> nn.Module:
        """The ensemble."""
        return Ensemble(self.members.networks, self.plan.members.mean).eval()

    @cached_property
    def targets(self) -> Tensor:
        """The ensemble's log-probabilities of the training frames, [N, S]."""
        teacher = teacher_of(self.lab.workshop, self.together, self.plan.members.mean)
        return self.lab.answers("ensemble", teacher, self.lab.workshop.train.inputs)[0]

    def student(self, temperature: float, seed: int) -> Trained:
        """One network that learns from the ensemble."""
        settings = self.plan.student.changed(temperature=temperature)
        examples = self.lab.workshop.train._replace(log_teacher=self.targets)
        return self.lab.train(f"student-{seed}", settings, [STUDENTS + seed], Distilling(settings), examples)

    @cached_property
    def temperature(self) -> float:
        """At which a student has the fewest errors on validation frames."""
        tried = {temperature: self.student(temperature, 0) for temperature in self.plan.temperatures}
        return min(tried, key=lambda temperature: (tried[temperature].errors[0], tried[temperature].nll[0]))

    @cached_property
    def members_heard(self) -> list[Heard]:
        """Each member on the test part."""
        return [self.hearing.of(network) for network in self.members.networks]

    @cached_property
    def together_heard(self) -> Heard:
        """The ensemble on the test part."""
        return self.hearing.of(self.together)

    @cached_property
    def students_heard(self) -> list[Heard]:
        """Students at the chosen temperature on the test part."""
        students = [self.student(self.temperature, seed) for seed in range(self.plan.seeds)]
        return [self.hearing.of(student.networks[0]) for student in students]

    def wer_gaussians(self) -> Measured:
        """Without any network: what the alignment itself is worth."""
        spoken, models = self.speech.said[2], self.speech.models
        scores = self.speech.gaussians.log_likelihoods(np.concatenate(spoken.cepstra)) + models.log_prior
        errors = self.hearing.words(scores, spoken)
        return [errors.rate], {"over_speakers": of_speakers(errors)}

    def single(self) -> Measured:
        """One network, ten times."""
        return [heard.frames for heard in self.members_heard], {"validation": self.validation(self.members)}

    def ensemble(self) -> Measured:
        """All of them."""
        return [self.together_heard.frames], {"members": len(self.members.networks)}

    def ensemble_gain(self) -> Measured:
        """In points of frame accuracy."""
        return [self.together_heard.frames - self._mean], {"mean_of_members": self._mean}

    @property
    def _mean(self) -> float:
        return statistics.fmean(heard.frames for heard in self.members_heard)

    def validation(self, trained: Trained) -> list[float]:
        """% of validation frames that each network has right."""
        total = len(self.lab.workshop.validation.labels)
        return [100.0 * (1 - errors / total) for errors in trained.errors]

    def at(self, temperature: float) -> Measured:
        """One student at a temperature, on validation."""
        return self.validation(self.student(temperature, 0)), {"temperature": temperature}

    def distilled(self) -> Measured:
        """The student at the temperature that validation chooses."""
        return [heard.frames for heard in self.students_heard], {"temperature": self.temperature}

    def gain_kept(self) -> Measured:
        """(student - mean of members) / (ensemble - mean of members), of each student."""
        gain = self.together_heard.frames - self._mean
        if gain <= 0:
            return [], {"note": "the ensemble gains nothing of which a share could be kept"}
        return [100.0 * (heard.frames - self._mean) / gain for heard in self.students_heard], {}

    def wer_single(self) -> Measured:
        """Of each member."""
        return _word_errors(self.members_heard, self.together_heard)

    def wer_ensemble(self) -> Measured:
        """Of the ensemble."""
        return _word_errors([self.together_heard], self.together_heard)

    def wer_distilled(self) -> Measured:
        """Of each student."""
        return _word_errors(self.students_heard, self.together_heard)


def _word_errors(heard: Sequence[Heard], together: Heard) -> Measured:
    """Word error rates, and how much above the ensemble's on the same recordings."""
    first = heard[0]
    return [each.words.rate for each in heard], {
        "over_speakers": [of_speakers(each.words) for each in heard],
        "above_ensemble": [difference(each.words, together.words, over_speakers=False) for each in heard],
        "above_ensemble_over_speakers": [difference(each.words, together.words, over_speakers=True) for each in heard],
        "strings": [each.strings.rate for each in heard],
        "strings_over_speakers": [of_speakers(each.strings) for each in heard],
        "penalties": [each.penalty for each in heard],
        "recordings": len(first.words.words_N),
        "words_in_strings": int(first.strings.words_N.sum()),
    }
