"""Soft targets where training data are few (section 6): networks of a share of the recordings, with hard labels, and
with the soft targets of one that was trained on all of them.

It knows how they are trained, not which rows there are. Legend: N recordings.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainer.answers import teacher_of
from trainer.data.split import Part
from trainer.fit import Examples, Loss
from trainer.objectives import Distilling, hard
from trainer.recipe import Training
from trainer.reproduce.acoustic import Acoustic
from trainer.reproduce.lab import only
from trainer.reproduce.rows import Measured

FIRST = 6_000
"""The first of their seeds."""


class Few:
    """Networks of some of the recordings; those of all are the ensemble's first members."""

    def __init__(self, acoustic: Acoustic) -> None:
        self.acoustic, self.lab, self.plan = acoustic, acoustic.lab, acoustic.plan
        self._measured: dict[tuple[float, bool], Measured] = {}

    def all_data(self) -> Measured:
        """The first members, on what they were trained on too."""
        networks = self.acoustic.members.networks[: self.plan.seeds]
        train = self._right(networks, self.acoustic.speech.train)
        return self._of_all, {"train": train, "recordings": len(self.acoustic.speech.said[0].words_N)}

    @cached_property
    def _of_all(self) -> list[float]:
        return self._right(self.acoustic.members.networks[: self.plan.seeds], self.acoustic.speech.test)

    @cached_property
    def _validation(self) -> Examples:
        """Every eighth frame: all of them would take longer in each epoch than the few that are learnt."""
        whole = self.lab.workshop.validation
        return only(whole, torch.arange(0, len(whole.labels), 8))

    def of(self, share: float, *, soft: bool) -> Measured:
        """Networks of a share of the recordings; soft targets are of one member, which was trained on all of them."""
        if (share, soft) not in self._measured:
            self._measured[share, soft] = self._of(share, soft)
        return self._measured[share, soft]

    def _of(self, share: float, soft: bool) -> Measured:
        settings, student = self.plan.of_few[share]
        asked: Training = student if soft else settings
        loss: Loss = Distilling(student) if soft else hard
        networks, train = [], []
        for seed in range(self.plan.seeds):
            examples, title = self._few(share, seed), f"few-{share:g}-{seed}"
            if soft:
                examples = examples._replace(log_teacher=self._member_targets(share, seed, examples))
            trained = self.lab.train(title, asked, [FIRST + seed], loss, examples, validation=self._validation)
            networks.append(trained.networks[0])
            learnt = Part(examples.inputs.cpu().numpy(), examples.labels.cpu().numpy())
            train += self._right(trained.networks, learnt)
        recordings = len(self._recordings(share, 0))
        return self._right(networks, self.acoustic.speech.test), {"train": train, "recordings": recordings}

    def _right(self, networks: Sequence[nn.Module], part: Part) -> list[float]:
        """% of the frames."""
        return [100.0 * float(self.lab.right([network], part).mean()) for network in networks]

    def _few(self, share: float, seed: int) -> Examples:
        """The frames of a share of the training recordings."""
        spoken = self.acoustic.speech.said[0]
        kept_N = np.zeros(len(spoken.words_N), dtype=np.bool_)
        kept_N[self._recordings(share, seed)] = True
        return only(self.lab.workshop.train, torch.from_numpy(np.repeat(kept_N, spoken.lengths)))

    def _recordings(self, share: float, seed: int) -> NDArray[np.int64]:
        """Drawn so that every word has as many, to one."""
        words_N = self.acoustic.speech.said[0].words_N
        drawn_N = np.random.default_rng(seed).permutation(len(words_N))
        turn_N = np.empty_like(words_N)
        for word in range(len(self.acoustic.speech.corpus.words)):
            own = drawn_N[words_N[drawn_N] == word]
            turn_N[own] = np.arange(len(own))
        return drawn_N[np.argsort(turn_N[drawn_N], kind="stable")][: round(share * len(words_N))]

    def _member_targets(self, share: float, seed: int, examples: Examples) -> Tensor:
        teacher = teacher_of(self.lab.workshop, self.acoustic.members.networks[seed])
        return self.lab.answers(f"member-{seed}-{share:g}", teacher, examples.inputs)[0]

    def recovered(self) -> Measured:
        """(soft - hard) / (all - hard) of each seed that loses anything, at the largest share of the recordings; at the
        others in the details."""
        found = {}
        for share in self.plan.of_few:
            kinds = zip(self.of(share, soft=True)[0], self.of(share, soft=False)[0], self._of_all, strict=True)
            lost = [(soft, hard, whole) for soft, hard, whole in kinds if whole > hard]
            found[f"{100 * share:g}"] = [100.0 * (soft - hard) / (whole - hard) for soft, hard, whole in lost]
        return found[f"{100 * max(self.plan.of_few):g}"], {"by_percent_of_recordings": found}
