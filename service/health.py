"""How the service is: whether it lives, whether it is ready, and what it has done (Prometheus).

It counts what it is told and what passes through it. It does not know what requests mean.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.library import Library
from service.model import Model

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds of the histograms' buckets: a student answers in well under a millisecond."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

router = APIRouter(tags=["health"])


class Metrics:
    """The counters of one app, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "stillroom_requests", "Requests answered", ("method", "route", "status"), registry=registry
        )
        self.rows = Counter("stillroom_predicted_rows", "Rows predicted", ("model",), registry=registry)
        self.queue = Histogram(
            "stillroom_queue_seconds", "Wait for the model", ("model",), registry=registry, buckets=SECONDS
        )
        self.compute = Histogram(
            "stillroom_compute_seconds", "Time of the run", ("model",), registry=registry, buckets=SECONDS
        )
        self.models = Gauge("stillroom_models", "Models served", ("name", "version", "provider"), registry=registry)

    def predicted(self, model: Model, rows: int, queue_s: float, compute_s: float) -> None:
        """Counts one answered prediction."""
        self.rows.labels(model.manifest.name).inc(rows)
        self.queue.labels(model.manifest.name).observe(queue_s)
        self.compute.labels(model.manifest.name).observe(compute_s)

    def expose(self, library: Library) -> bytes:
        """Everything in Prometheus's text format; the models are those of this moment."""
        self.models.clear()
        for model in library.models().values():
            self.models.labels(model.manifest.name, model.manifest.version, model.provider).set(1)
        return generate_latest(self.registry)


class CountRequests:
    """ASGI middleware: counts requests by the template of their route, never by a path that a client made up.

    What is no route of the API counts as `other`: the page's files, the reference, unknown pages, refused bodies.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands over, and counts when the answer is out."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500  # what the client gets where no answer starts

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in METHODS else "other"
            self.metrics.requests.labels(method, route, status).inc()


@router.get("/health/live", summary="The process answers")
async def live() -> dict[str, str]:
    """200 as long as the process answers at all."""
    return {"status": "live"}


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
    return Response(counted.expose(request.app.state.library), media_type=CONTENT_TYPE_PLAIN_0_0_4)
