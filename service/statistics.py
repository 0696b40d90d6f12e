"""What the service has done since it started: requests by their answers, and for each version its rows, waits and runs.

It counts what it is told, in plain numbers, since it is told several times a request; who wants to see them makes them
into what they read: Prometheus's metrics or the protocol's statistics. It does not know requests or routes.
"""

from __future__ import annotations

import logging
import time
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field

import orjson
from pydantic import TypeAdapter

from service.board import Board
from service.model import Model

log = logging.getLogger("service")

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds of the histograms' buckets: a student answers in well under a millisecond."""


@dataclass
class Duration:
    """How often, and how long in all."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        """Counts one, or several that took so long together."""
        self.count += count
        self.seconds += seconds


@dataclass
class Histogram(Duration):
    """How often in each bucket too; the last is for what is longer than all of SECONDS."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(SECONDS) + 1))

    def observe(self, seconds: float) -> None:
        """Counts one."""
        self.add(seconds)
        self.buckets[bisect_left(SECONDS, seconds)] += 1


@dataclass
class Tally:
    """Of one version: rows that were answered or wait, failures by their reason, waits and runs, runs by their rows.

    Of a cascade, which does not run itself, `deferred` are those of its rows that the ensemble answered.
    """

    rows: int = 0
    deferred: int = 0
    waiting: int = 0
    last_ms: int = 0
    queue: Histogram = field(default_factory=Histogram)
    compute: Histogram = field(default_factory=Histogram)
    failures: dict[str, Duration] = field(default_factory=lambda: defaultdict(Duration))
    runs: dict[int, Duration] = field(default_factory=lambda: defaultdict(Duration))

    def answered(self, rows: int, queue_s: float, compute_s: float) -> None:
        """Counts a request that got its rows."""
        self.rows += rows
        self.last_ms = time.time_ns() // 1_000_000
        self.queue.observe(queue_s)
        self.compute.observe(compute_s)

    def add(self, other: Tally) -> None:
        """Counts what another one counted."""
        self.rows += other.rows
        self.deferred += other.deferred
        self.waiting += other.waiting
        self.last_ms = max(self.last_ms, other.last_ms)
        for mine, its in ((self.queue, other.queue), (self.compute, other.compute)):
            mine.add(its.seconds, its.count)
            mine.buckets = [one + two for one, two in zip(mine.buckets, its.buckets, strict=True)]
        for reason, failed in other.failures.items():
            self.failures[reason].add(failed.seconds, failed.count)
        for rows, ran in other.runs.items():
            self.runs[rows].add(ran.seconds, ran.count)


@dataclass
class Counts:
    """Everything that is counted: requests by "METHOD route status", versions by "name/version".

    The rows of `cascades` are counted once more, with the models that answered them.
    """

    requests: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    versions: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    cascades: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))

    def add(self, other: Counts) -> None:
        """Counts what another one counted."""
        for request, count in other.requests.items():
            self.requests[request] += count
        for mine, its in ((self.versions, other.versions), (self.cascades, other.cascades)):
            for place, tally in its.items():
                mine[place].add(tally)


COUNTS = TypeAdapter(Counts)


class Statistics:
    """Counts for one process. A version of the same name and number goes on with the tally of the one before."""

    def __init__(self) -> None:
        self.counts = Counts()
        self._board: Board | None = None
        self._slot = 0
        self._is_full = False

    def share(self, board: Board, slot: int) -> None:
        """From now on `total` is that of all processes; goes on with what the one that had this slot had counted."""
        self._board, self._slot = board, slot
        self.counts.add(_read(board, slot))
        for tally in self.counts.versions.values():
            tally.waiting = 0

    def publish(self) -> None:
        """Shows the other processes what was counted. It is to be called now and then."""
        if self._board is None:
            return
        try:
            self._board.write(self._slot, orjson.dumps(self.counts, option=orjson.OPT_NON_STR_KEYS))
        except ValueError:
            if not self._is_full:
                log.exception("the counts of this worker are shown to the others no more")
            self._is_full = True

    def total(self) -> Counts:
        """What was counted, as a copy: here to this moment, elsewhere when it was published last."""
        self.publish()  # whoever is asked next must not know less
        total = Counts()
        total.add(self.counts)
        if self._board is not None:
            for slot in range(self._board.slots):
                if slot != self._slot:
                    total.add(_read(self._board, slot))
        return total

    def runs(self) -> int:
        """Batches that were run so far in all processes, elsewhere until it was published last. From any thread."""
        others = [] if self._board is None else [slot for slot in range(self._board.slots) if slot != self._slot]
        counts = [self.counts, *(_read(self._board, slot) for slot in others if self._board is not None)]
        tallies = [tally for one in counts for tally in list(one.versions.values())]
        return sum(run.count for tally in tallies for run in list(tally.runs.values()))

    def of(self, model: Model) -> Tally:
        """The tally of a version in this process."""
        return self.counts.versions[model.place]

    def requested(self, method: str, route: str, status: int) -> None:
        """Counts an answer to a request."""
        self.counts.requests[f"{method} {route} {status}"] += 1

    def ran(self, model: Model, rows: int, compute_s: float) -> None:
        """Counts a run."""
        self.of(model).runs[rows].add(compute_s)

    def answered(self, model: Model, rows: int, queue_s: float, compute_s: float) -> None:
        """Counts a request that got its rows."""
        self.of(model).answered(rows, queue_s, compute_s)

    def failed(self, model: Model, reason: str, seconds: float) -> None:
        """Counts a request that got none, and how long it took to fail: `graph`, `full`, `timeout` or `gone`."""
        self.of(model).failures[reason].add(seconds)

    def relayed(self, cascade: Model, rows: int, deferred: int, queue_s: float, compute_s: float) -> None:
        """Counts a request that a cascade answered, so many of its rows by the ensemble."""
        tally = self.counts.cascades[cascade.place]
        tally.answered(rows, queue_s, compute_s)
        tally.deferred += deferred

    def relay_failed(self, cascade: Model, seconds: float) -> None:
        """Counts a request to which one of a cascade's models gave no answer; with that model the reason is counted."""
        self.counts.cascades[cascade.place].failures["model"].add(seconds)


def _read(board: Board, slot: int) -> Counts:
    raw = board.read(slot)
    return COUNTS.validate_json(raw) if raw else Counts()
