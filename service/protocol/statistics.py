"""The protocol's statistics of a version, from what was counted. It counts nothing.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_statistics.md
"""

from __future__ import annotations

from typing import Any

from service.manifest import Manifest
from service.statistics import Duration, Tally

Shown = dict[str, Any]


def shown(manifest: Manifest, tally: Tally) -> Shown:
    """One entry of `model_stats`. Rows go into a run and out of it without a copy that could be timed."""
    nothing, untimed = _duration(Duration()), {"count": tally.compute.count, "ns": 0}
    failed = Duration()
    for each in tally.failures.values():
        failed.add(each.seconds, each.count)
    return {
        "name": manifest.name,
        "version": str(manifest.version),
        "last_inference": tally.last_ms,
        "inference_count": tally.rows,
        "execution_count": sum(run.count for run in tally.runs.values()),
        "inference_stats": {
            "success": _duration(Duration(tally.queue.count, tally.queue.seconds + tally.compute.seconds)),
            "fail": _duration(failed),
            "queue": _duration(tally.queue),
            "compute_input": untimed,
            "compute_infer": _duration(tally.compute),
            "compute_output": untimed,
            "cache_hit": nothing,
            "cache_miss": nothing,
        },
        "batch_stats": [
            {
                "batch_size": rows,
                "compute_input": {"count": run.count, "ns": 0},
                "compute_infer": _duration(run),
                "compute_output": {"count": run.count, "ns": 0},
            }
            for rows, run in sorted(tally.runs.items())
        ],
    }


def _duration(duration: Duration) -> Shown:
    return {"count": duration.count, "ns": round(duration.seconds * 1e9)}
