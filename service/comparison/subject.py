"""A model under comparison: how it is asked, and what is known of it. It knows no data, no timing and no report.

Behind it stands a model of the repository, a cascade, a plain ONNX file, or a server elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from service.comparison.remote import RemoteModel
from service.manifest import CascadeRule, ImageSpec
from service.model import Prediction

Inputs = NDArray[np.float32]


class Answering(Protocol):
    """Whatever answers rows [B, ...] with probabilities and logits [B, K]."""

    def run(self, inputs: Inputs) -> Prediction:
        """The answers; safe to call again and again from one thread."""


@dataclass(frozen=True)
class Loaded:
    """What making it ready took: seconds for the session and for its first answer, bytes of memory it grew by."""

    session_s: float
    first_s: float
    resident_bytes: int | None


@dataclass(frozen=True)
class Passing:
    """How a cascade passes rows on: its student, the rule that names the model which it asks, what one row takes of
    that model in multiply-accumulates, and which of rows [B, ...] those are, [B]."""

    student: str
    rule: CascadeRule
    multiply_accumulates: int
    deferred: Callable[[Inputs], NDArray[np.bool_]]


@dataclass(frozen=True)
class Subject:
    """One column of a report. What is not known of it is None."""

    name: str
    version: int | None
    role: str
    classes: Sequence[str]
    shape: tuple[int, ...]
    answering: Answering
    sha256: str | None = None
    parameters: int | None = None
    multiply_accumulates: int | None = None
    bytes: int | None = None
    provider_asked: str | None = None
    provider: str | None = None
    threads: int | None = None
    image: ImageSpec | None = None
    trained_on: NDArray[np.uint64] | None = None
    """Hashes of its training examples, as in its train-hashes.npy."""
    loaded: Loaded | None = None
    is_here: bool = True
    """Whether it runs in this process: else its processor time and memory are not to be seen from here."""
    timed: Answering | None = None
    """What is asked when it is timed, where that is not `answering`."""
    remote: RemoteModel | None = None
    """Where it can be asked over HTTP too."""
    passing: Passing | None = None
    """Of a cascade, whose `sha256` is that of its student's graph."""

    @property
    def place(self) -> str:
        """`name/version`."""
        return self.name if self.version is None else f"{self.name}/{self.version}"

    def run(self, inputs: Inputs) -> Prediction:
        """Answers for float32 [B, ...] in raw units."""
        return self.answering.run(inputs)
