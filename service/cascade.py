"""A cascade: a student answers, and where it is not confident enough, its ensemble does. Which cascades there are.

It knows arrays, models and the rule in a student's manifest. It does not know requests, queues or folders.
Legend: B batch, K classes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.manifest import GRAPH, CascadeRule, Manifest
from service.model import Model, Prediction
from service.shelf import Key

STUDENT, CASCADE = "-student", "-cascade"


def confidence(logits_BK: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """The largest of softmax(logits / T) of each row, [B], worked out in float64 (Guo et al. 2017: a T that was fitted
    on held-out examples makes it a probability of being right)."""
    exact = np.asarray(logits_BK, dtype=np.float64)
    with np.errstate(invalid="ignore", over="ignore"):  # of NaN and infinity comes NaN, which is no confidence
        shifted = (exact - exact.max(axis=1, keepdims=True)) / temperature
        found: NDArray[np.float64] = 1.0 / np.exp(shifted).sum(axis=1)
    return found


def merged(student: Prediction, ensemble: Prediction, deferred_B: NDArray[np.bool_]) -> Prediction:
    """The student's rows, but for the deferred ones, which are the ensemble's, in their order."""
    probabilities_BK, logits_BK = student.probabilities_BK.copy(), student.logits_BK.copy()
    probabilities_BK[deferred_B], logits_BK[deferred_B] = ensemble
    return Prediction(probabilities_BK, logits_BK)


class Cascade(Model):
    """Two models and the rule between them, under a name of its own and with the student's version.

    Its manifest is the student's with that name, and with the parameters and bytes of both.
    """

    def __init__(self, student: Model, ensemble: Model, rule: CascadeRule) -> None:
        mine, other = student.manifest, ensemble.manifest
        both = {"parameters": mine.parameters + other.parameters, "bytes": mine.bytes + other.bytes}
        changes = {"name": cascade_name(mine.name), **both}
        super().__init__(mine.model_copy(update=changes), student.session, student.words, student.recorded)
        self.student = student
        self.ensemble = ensemble
        self.rule = rule

    @property
    def name(self) -> str:
        """What it is asked by."""
        return self.manifest.name

    @property
    def stored(self) -> Manifest:
        """The student's: a cascade has no folder."""
        return self.student.manifest

    def defers(self, logits_BK: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Of the student's logits, which rows go to the ensemble, [B]: below the threshold, or no number at all."""
        deferred_B: NDArray[np.bool_] = ~(confidence(logits_BK, self.rule.temperature) >= self.rule.threshold)
        return deferred_B

    def deferred(self, inputs: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which rows of float32 [B, ...] go to the ensemble, [B]."""
        return self.defers(self.student.run(inputs).logits_BK)

    def run(self, inputs: NDArray[np.float32]) -> Prediction:
        """Answers for float32 [B, ...] in raw units, one model after the other."""
        first = self.student.run(inputs)
        deferred_B = self.defers(first.logits_BK)
        return merged(first, self.ensemble.run(inputs[deferred_B]), deferred_B) if deferred_B.any() else first


def cascade_name(student: str) -> str:
    """`mnist-student` -> `mnist-cascade`; where a name has no such end, `-cascade` is added to it."""
    return student.removesuffix(STUDENT) + CASCADE


class Found(NamedTuple):
    """The cascades that can be asked, and for each of the others why it cannot, by name and version."""

    cascades: dict[Key, Cascade]
    refused: dict[Key, str]


def find_cascades(models: Mapping[Key, Model], folders: Collection[str], unloaded: Collection[str]) -> Found:
    """Those that the manifests of these models ask for. A model in a folder of that name has the name."""
    found = Found({}, {})
    for (student, version), model in sorted(models.items()):
        rule, key = model.manifest.cascade, (cascade_name(student), version)
        if rule is None or key[0] in unloaded:
            continue
        reason = _why_not(model, rule, models, folders) or _taken(student, found, key[0])
        if reason:
            found.refused.setdefault(key, f"{key[0]}/{version}: {reason}")
        else:
            found.cascades[key] = Cascade(model, models[rule.name, rule.version], rule)
    return found


def _taken(student: str, found: Found, name: str) -> str | None:
    """All cascades of one name are of one student."""
    others = {cascade.student.manifest.name for key, cascade in found.cascades.items() if key[0] == name} - {student}
    return f"{', '.join(others)} has a cascade of that name already, so {student} cannot have it" if others else None


def _why_not(model: Model, rule: CascadeRule, models: Mapping[Key, Model], folders: Collection[str]) -> str | None:
    mine = model.manifest
    if cascade_name(mine.name) in folders:
        return f"a model of that name is in the repository, so the cascade of {model.place} cannot have it"
    ensemble = models.get((rule.name, rule.version))
    if ensemble is None:
        return f"the ensemble of its student {model.place} is {rule.name}/{rule.version}, which is not loaded"
    its, sha256 = ensemble.manifest, ensemble.manifest.files[GRAPH].sha256
    if sha256 != rule.sha256:
        return (
            f"{ensemble.place} is not the ensemble of its student {model.place}: "
            f"its graph has SHA-256 {sha256[:12]}…, expected {rule.sha256[:12]}…"
        )
    if (its.input.shape, its.classes) != (mine.input.shape, mine.classes):
        return f"{ensemble.place} and its student {model.place} do not take the same inputs and know the same classes"
    return None
