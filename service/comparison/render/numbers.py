"""Numbers as people read them. It knows units, not where the numbers come from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

from service.comparison.schema.part import Estimate, Interval

NOTHING = "–"
SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
MANY = 2000
"""From so many examples on, hundredths of a percent mean something."""

Format = Callable[[float], str]


def figures(value: float, significant: int = 3) -> str:
    """Three significant figures, without an exponent."""
    if value == 0:
        return "0"
    digits = significant - 1 - math.floor(math.log10(abs(float(f"{value:.{significant - 1}e}"))))
    return signed(f"{round(value, digits):,.{min(max(digits, 0), 12)}f}")


def signed(text: str) -> str:
    """With a minus that is as wide as a plus."""
    return text.replace("-", "−")


def whole(value: float) -> str:
    """A whole number with its thousands apart."""
    return f"{value:,.0f}"


def times(value: float) -> str:
    """How many times: 12.4×."""
    return f"{figures(value)}×"


def interval(ends: Interval | None, form: Format) -> str:
    """[low, high], each end formatted; nothing where there is none."""
    return "" if ends is None else f"[{form(ends[0])}, {form(ends[1])}]"


def percent(ratio: float) -> str:
    """Three figures: 21.3 %."""
    return f"{figures(100 * ratio)} %"


def inverse(estimate: Estimate) -> Estimate:
    """Of a ratio, the other way round."""
    low, high = estimate.interval
    return Estimate(value=1 / estimate.value, interval=(1 / high, 1 / low))


def size(value: float) -> str:
    """Bytes in decimal units."""
    step = min(4, math.floor(math.log10(max(value, 1)) / 3))
    return f"{figures(value / 1000**step)} {('B', 'kB', 'MB', 'GB', 'TB')[step]}"


def probability(p: float) -> str:
    """97.3 %, and below a thousandth its power of ten: that is where dark knowledge lives."""
    if p >= 0.001 or p <= 0:
        return f"{100 * p:.1f} %" if p > 0 else "0"
    digit, exponent = f"{p:.0e}".split("e-")
    return f"{digit} × 10⁻{str(int(exponent)).translate(SUPERSCRIPTS)}"


def p_value(p: float) -> str:
    """Of a test."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


class Shares(NamedTuple):
    """Shares of `examples` in percent, to as many digits as so many examples bear."""

    examples: int

    def percent(self, value: float) -> str:
        """A bare number: 97.3."""
        return f"{100 * value:.{1 if self.examples < MANY else 2}f}"

    def share(self, value: float) -> str:
        """With its sign: 97.3 %."""
        return f"{self.percent(value)} %"

    def points(self, value: float) -> str:
        """A difference in percentage points: +0.6."""
        text = self.percent(abs(value))
        sign = "" if float(text) == 0 else "−" if value < 0 else "+"
        return sign + text


class TimeUnit(NamedTuple):
    """The unit of a column of times."""

    name: str
    per_ms: float

    def form(self, ms: float) -> str:
        """A bare number."""
        return figures(ms * self.per_ms)

    def time(self, ms: float) -> str:
        """A number with its unit."""
        return f"{self.form(ms)} {self.name}"


TIME_UNITS = (TimeUnit("µs", 1000.0), TimeUnit("ms", 1.0), TimeUnit("s", 0.001))


def time_unit(values_ms: Iterable[float]) -> TimeUnit:
    """The finest one of those in which these are written at the least length."""
    some = list(values_ms)
    return min(TIME_UNITS, key=lambda unit: max((len(unit.form(value)) for value in some), default=0))
