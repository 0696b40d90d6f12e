"""How the service is: whether it lives, whether it is ready, and what it has done (Prometheus).

It shows what was counted. It counts nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from service.library import Library
from service.statistics import SECONDS, Counts, Statistics, Tally

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""Upper bounds of the batch size's buckets."""

router = APIRouter(tags=["health"])


class Metrics(Collector):
    """What was counted, and the models of this moment, as Prometheus's metrics."""

    def __init__(self, statistics: Statistics, library: Library) -> None:
        self._statistics = statistics
        self._library = library
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def expose(self) -> bytes:
        """Everything in Prometheus's text format."""
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        """None yet: the registry need not collect for their names."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Each metric."""
        counts = self._statistics.total()
        requests = CounterMetricFamily("stillroom_requests", "Requests answered", labels=("method", "route", "status"))
        for request, count in counts.requests.items():
            requests.add_metric(request.split(" "), count)
        yield requests
        yield from _by_model(counts)
        yield _by_cascade(counts)
        models = GaugeMetricFamily("stillroom_models", "Models served", labels=("name", "version", "provider"))
        for model in self._library.models().values():
            models.add_metric([model.manifest.name, str(model.manifest.version), model.provider], 1)
        yield models


def _by_model(counts: Counts) -> Iterator[Metric]:
    """Of each name, all of its versions together."""
    tallies: dict[str, Tally] = {}
    for place, tally in counts.versions.items():
        tallies.setdefault(place.rpartition("/")[0], Tally()).add(tally)
    rows = CounterMetricFamily("stillroom_predicted_rows", "Rows predicted", labels=("model",))
    waiting = GaugeMetricFamily("stillroom_queue_rows", "Rows that wait for the model", labels=("model",))
    failures = CounterMetricFamily(
        "stillroom_failed_predictions", "Predictions that failed", labels=("model", "reason")
    )
    queue = HistogramMetricFamily("stillroom_queue_seconds", "Wait for the model", labels=("model",))
    compute = HistogramMetricFamily("stillroom_compute_seconds", "Time of the run", labels=("model",))
    batch = HistogramMetricFamily("stillroom_batch_rows", "Rows of a run", labels=("model",))
    for name, tally in tallies.items():
        rows.add_metric([name], tally.rows)
        waiting.add_metric([name], tally.waiting)
        for reason, failed in tally.failures.items():
            failures.add_metric([name, reason], failed.count)
        for family, histogram in ((queue, tally.queue), (compute, tally.compute)):
            family.add_metric([name], _buckets(SECONDS, histogram.buckets), histogram.seconds)
        runs = [0] * (len(BATCHES) + 1)
        for size, run in tally.runs.items():
            runs[bisect_left(BATCHES, size)] += run.count
        batch.add_metric([name], _buckets(BATCHES, runs), sum(size * run.count for size, run in tally.runs.items()))
    yield from (rows, waiting, failures, queue, compute, batch)


def _by_cascade(counts: Counts) -> Metric:
    """Who answered: the share deferred is the ensemble's part of both."""
    rows = CounterMetricFamily(
        "stillroom_cascade_rows", "Rows that a cascade answered", labels=("model", "version", "answered_by")
    )
    for place, tally in counts.cascades.items():
        name, _, version = place.rpartition("/")
        for by, count in (("student", tally.rows - tally.deferred), ("ensemble", tally.deferred)):
            rows.add_metric([name, version, by], count)
    return rows


def _buckets(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """Prometheus's own: each counts what is below its bound."""
    names = [*map(floatToGoString, bounds), "+Inf"]
    return list(zip(names, accumulate(counts), strict=True))


@router.head("/health/live", include_in_schema=False)
@router.get("/health/live", summary="The process answers")
async def live() -> dict[str, str]:
    """200 as long as the process answers at all."""
    return {"status": "live"}


@router.head("/health/ready", include_in_schema=False)
@router.get("/health/ready", summary="Models are loaded and warmed up")
async def ready(request: Request) -> dict[str, str | int]:
    """200 when at least one model is loaded and warmed up, else 503 with the reason."""
    library: Library = request.app.state.library
    library.get()
    return {"status": "ready", "models": len(library.newest())}


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Requests, rows, and seconds of queueing and computing, in Prometheus's text format."""
    counted: Metrics = request.app.state.metrics
    return Response(counted.expose(), media_type=CONTENT_TYPE_PLAIN_0_0_4)
