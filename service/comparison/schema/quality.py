"""The parts of a report that say how good the models are. It computes nothing."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from service.comparison.schema.part import Count, Estimate, Fraction, Interval, Part


class ReliabilityBin(Part):
    """The examples whose confidence lies in one bin of a reliability diagram; bins without any are left out."""

    low: Fraction = Field(description="the bin is (low, high]")
    high: Fraction
    examples: Count
    confidence: Fraction = Field(description="mean of the bin's examples")
    accuracy: Fraction


class ClassQuality(Part):
    """One model on the examples of one class."""

    label: str
    examples: Count
    answered: Count = Field(description="examples, of whatever class, to which the model gave this label")
    accuracy: Fraction | None = Field(description="share of right labels (recall); null where there is no example")
    accuracy_interval: Interval | None = Field(description="Wilson score interval")
    nll: float | None
    brier: float | None
    ece: float | None


class Confused(Part):
    """A cell of the confusion matrix off its diagonal."""

    label: str = Field(description="the right one")
    answer: str = Field(description="the one that was given")
    examples: Count


class LabelFlips(Part):
    """Whether a row's label depends on how many rows travel with it."""

    sizes: tuple[int, int] = Field(description="rows in a batch, the two that were compared")
    examples: Count = Field(description="examples that were answered at both")
    flips: Count = Field(description="of those, how many got another label")


class TwoByTwo(Part):
    """The paired answers of two models, in examples."""

    both_right: Count
    only_a: Count = Field(description="a alone is right")
    only_b: Count = Field(description="b alone is right")
    neither: Count


class McNemar(Part):
    """Exact two-sided McNemar test: whether a and b err equally often (binomial, over the discordant examples)."""

    discordant: Count = Field(description="examples that one alone gets right")
    p: Fraction


class Verdict(Part):
    """Non-inferiority of a to b in accuracy, against a margin stated beforehand.

    `shown`: the whole interval of the difference lies above -margin. `refuted`: all of it lies below. Else `not shown`:
    these examples do not decide. It is a one-sided test at 2.5 %; "no significant difference" shows nothing.
    """

    margin: float = Field(description="in percentage points")
    result: Literal["shown", "not shown", "refuted"]
    text: str = Field(description="the verdict in one sentence")


class PairOnClass(Part):
    """Two models on the examples of one class."""

    label: str
    examples: Count
    agreement: Fraction | None
    kl: float | None = Field(description="mean KL divergence from b to a in nats")
    table: TwoByTwo
    accuracy_difference: Estimate | None


class Disagreement(Part):
    """An example to which a and b give different labels."""

    index: Count = Field(description="among the examples of the comparison, in their order")
    label: str | None = Field(description="the right one, where it is known")
    a: list[Fraction] = Field(description="probabilities that a gives, in the order of the classes")
    b: list[Fraction]
    image: str | None = Field(description="the example as a data: URL of a PNG, where examples are pictures")
