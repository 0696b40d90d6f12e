"""What a cascade saves against the model that it asks, where both are compared. It computes, and measures nothing."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from service.comparison import paired, statistics
from service.comparison.columns import estimate
from service.comparison.data import Data
from service.comparison.measurement import Measured
from service.comparison.schema.part import Estimate
from service.comparison.schema.report import CascadeGain, ComparedModel

Column = tuple[Measured, ComparedModel]


def gains(measured: Sequence[Measured], models: Sequence[ComparedModel], data: Data, seed: int) -> list[CascadeGain]:
    """Of each cascade against the very model that it asks; `models` are the columns of what was measured."""
    pairs = product(zip(measured, models, strict=True), repeat=2)
    return [_gain(cascade, asked, data, seed) for cascade, asked in pairs if _asks(cascade[1], asked[1])]


def _asks(cascade: ComparedModel, other: ComparedModel) -> bool:
    rule = cascade.cascade
    asked = None if rule is None else (rule.asks, rule.asks_version, rule.asks_sha256)
    return asked == (other.name, other.version, other.sha256) and other.cascade is None


def _gain(cascade: Column, asked: Column, data: Data, seed: int) -> CascadeGain:
    (mine, own), (its, other) = cascade, asked
    difference = None if data.labels is None else paired.difference(mine.log_p_NK, its.log_p_NK, data.labels)
    work = None
    if own.multiply_accumulates is not None and other.multiply_accumulates:
        work = own.multiply_accumulates / other.multiply_accumulates
    time = estimate(statistics.speed_up(its.kept(1), mine.kept(1), seed))
    return CascadeGain(
        name=own.name,
        version=own.version,
        asks=other.name,
        asks_version=other.version,
        deferred=own.deferred or 0.0,
        accuracy_difference=difference,
        multiply_accumulates_ratio=work,
        time_ratio=time,
        text=_text(own, other, difference, work, time),
    )


def _text(
    own: ComparedModel, other: ComparedModel, difference: Estimate | None, work: float | None, time: Estimate
) -> str:
    """In a sentence."""
    names = [f"{model.name}/{model.version}" for model in (own, other)]
    said = [f"{names[0]} passes {_percent(own.deferred or 0.0)} of the examples on to {names[1]}"]
    if difference is not None and own.accuracy is not None and other.accuracy is not None:
        low, high = (f"{100 * end:+.2f}" for end in difference.interval)
        said.append(
            f"is right on {_percent(own.accuracy)} where that is on {_percent(other.accuracy)} (difference "
            f"{100 * difference.value:+.2f} points, 95 % interval {low} to {high})"
        )
    cost = "" if work is None else f"{_percent(work)} of that model's multiply-accumulates and "
    low, high = map(_percent, time.interval)
    said.append(f"takes {cost}{_percent(time.value)} of its time, one row at a time (95 % interval {low} to {high})")
    return f"{', '.join(said[:-1])}, and {said[-1]}."


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
