"""What a comparison found of a pair, in sentences. It knows no layout."""

from __future__ import annotations

from service.comparison.render.numbers import interval, inverse, times, whole
from service.comparison.render.view import View, view_of
from service.comparison.schema.part import Estimate
from service.comparison.schema.report import Pair, Report

ALIKE = 1.1
"""A ratio of speeds whose whole interval is nearer to 1 than that is called none."""


def headline(report: Report) -> str | None:
    """What the first pair gains in time and loses in accuracy, in two sentences, and why there is no verdict where
    there is none; None without a pair."""
    if not report.pairs:
        return None
    view, pair = view_of(report), report.pairs[0]
    return " ".join([speed(view, pair), difference(view, pair), *([] if pair.verdict else [unjudged(view, pair)])])


def speed(view: View, pair: Pair) -> str:
    """Which of the two is the faster, one row at a time."""
    a, b = view.names.labels(pair)
    low, high = pair.speed_up.interval
    if low <= 1 <= high:
        ratio = f"{times(pair.speed_up.value)}, 95 % {interval(pair.speed_up.interval, times)}"
        if low >= 1 / ALIKE and high <= ALIKE:
            return f"One row at a time, {a} and {b} are about as fast as each other ({ratio})."
        return f"One row at a time, neither {a} nor {b} is shown to be the faster ({ratio})."
    if pair.speed_up.value < 1:
        return _faster(b, a, inverse(pair.speed_up))
    return _faster(a, b, pair.speed_up)


def _faster(quick: str, slow: str, ratio: Estimate) -> str:
    ends = interval(ratio.interval, times)
    return f"{quick} is {times(ratio.value)} as fast as {slow}, one row at a time (95 % {ends})."


def difference(view: View, pair: Pair) -> str:
    """How much the two differ in accuracy; without labels, how often they agree. Where the interval holds 0, it is left
    to speak for itself: that they are equal, or nearly, is for a margin to show."""
    a, b = view.names.labels(pair)
    if pair.accuracy_difference is None:
        return f"The two give the same label to {view.shares.share(pair.agreement)} of {_examples(view)}."
    value, ends = pair.accuracy_difference.value, pair.accuracy_difference.interval
    points = f"{view.shares.points(value)} points, 95 % {interval(ends, view.shares.points)}"
    if ends[0] <= 0 <= ends[1]:
        return f"On {_examples(view)} the accuracy of {a} minus that of {b} is {points}."
    more = "more" if value > 0 else "less"
    return f"{a} is {more} accurate than {b} on {_examples(view)} ({points})."


def unjudged(view: View, pair: Pair) -> str:
    """In place of a verdict."""
    if pair.accuracy_difference is None:
        return "There are no right labels, so nothing says which of the models is the better one."
    return "No margin was stated beforehand, so there is no verdict on whether one may stand in for the other."


def result(pair: Pair) -> str:
    """The verdict as a word."""
    return pair.verdict.result if pair.verdict else ""


def _examples(view: View) -> str:
    return f"{whole(view.report.data.examples)} examples"
