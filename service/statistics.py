"""What each version of each model has done since the service started, as the protocol's statistics count it.

It counts what it is told. It does not know requests or routes.
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_statistics.md
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from service.model import Model

Shown = dict[str, Any]


@dataclass
class Duration:
    """How often, and how long in all."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Counts one."""
        self.count += 1
        self.seconds += seconds

    def shown(self) -> Shown:
        """As the protocol writes it."""
        return {"count": self.count, "ns": round(self.seconds * 1e9)}


@dataclass
class Tally:
    """Of one version: requests that were answered or failed, their waits and runs, and runs by their rows."""

    rows: int = 0
    last_ms: int = 0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute: Duration = field(default_factory=Duration)
    runs: defaultdict[int, Duration] = field(default_factory=lambda: defaultdict(Duration))

    def shown(self, model: Model) -> Shown:
        """As the protocol writes it. Rows go into a run and out of it without a copy that could be timed."""
        nothing = Duration().shown()
        untimed = {"count": self.compute.count, "ns": 0}
        return {
            "name": model.manifest.name,
            "version": str(model.manifest.version),
            "last_inference": self.last_ms,
            "inference_count": self.rows,
            "execution_count": sum(run.count for run in self.runs.values()),
            "inference_stats": {
                "success": self.success.shown(),
                "fail": self.fail.shown(),
                "queue": self.queue.shown(),
                "compute_input": untimed,
                "compute_infer": self.compute.shown(),
                "compute_output": untimed,
                "cache_hit": nothing,
                "cache_miss": nothing,
            },
            "batch_stats": [
                {
                    "batch_size": rows,
                    "compute_input": {"count": run.count, "ns": 0},
                    "compute_infer": run.shown(),
                    "compute_output": {"count": run.count, "ns": 0},
                }
                for rows, run in sorted(self.runs.items())
            ],
        }


class Statistics:
    """The tallies of all versions that have run."""

    def __init__(self) -> None:
        self._tallies: defaultdict[tuple[str, int], Tally] = defaultdict(Tally)

    def of(self, model: Model) -> Tally:
        """The tally of a version, which a version of the same name and number goes on with."""
        return self._tallies[model.manifest.name, model.manifest.version]

    def ran(self, model: Model, rows: int, compute_s: float) -> None:
        """Counts a run."""
        self.of(model).runs[rows].add(compute_s)

    def answered(self, model: Model, rows: int, queue_s: float, compute_s: float) -> None:
        """Counts a request that got its rows."""
        tally = self.of(model)
        tally.rows += rows
        tally.last_ms = time.time_ns() // 1_000_000
        tally.success.add(queue_s + compute_s)
        tally.queue.add(queue_s)
        tally.compute.add(compute_s)

    def failed(self, model: Model, seconds: float) -> None:
        """Counts a request on which the graph failed."""
        self.of(model).fail.add(seconds)
