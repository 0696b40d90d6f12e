"""How a comparison is to be measured, what it does now, and when it is to stop. It knows no models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

Scenario = Literal["offline", "server", "alternating", "http"]
SCENARIOS: tuple[Scenario, ...] = get_args(Scenario)
USUAL: tuple[Scenario, ...] = ("offline", "server", "alternating")
"""What is measured beside single rows and batches where nothing else is asked for."""


@dataclass(frozen=True)
class Progress:
    """Seconds that are done and that all of it takes, as far as is known; what is being done. From the first with
    `is_own_traffic` on, the comparison asks the service itself."""

    done: float
    total: float
    doing: str
    is_own_traffic: bool = False


@dataclass(frozen=True)
class Plan:
    """Rows in a batch; blocks for each model and batch size, and the fewest calls of single rows that must count; the
    seed; rows that one run may hold; what else is measured, at which rate of arrival (requests per second; by default
    half of what the slowest model answered one by one, with or without HTTP); the margin of the verdict in percentage
    points; the price of an hour.

    `tell` is called whenever something was done, and may raise to end it.
    """

    batch: int
    blocks: int
    seed: int
    max_batch: int
    calls: int = 0
    scenarios: tuple[Scenario, ...] = ()
    threads: int = 1
    rate: float | None = None
    margin: float | None = None
    price_per_hour: float | None = None
    tell: Callable[[Progress], None] = field(default=lambda progress: None)


class Course:
    """Adds up what is done of a plan, in seconds that were expected, and tells it."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._done = 0.0
        self._doing = ""
        self.total = 0.0

    def now(self, doing: str = "", seconds: float = 0.0, *, is_own_traffic: bool = False) -> None:
        """So many seconds' worth is done; this comes next, or the same goes on."""
        self._done += seconds
        self._doing = doing or self._doing
        self._plan.tell(Progress(min(self._done, self.total), self.total, self._doing, is_own_traffic))
