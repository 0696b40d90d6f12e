"""From an answer to the bytes that /predict sends: labels, probabilities, the best classes. It knows no requests."""

from __future__ import annotations

from time import perf_counter

import orjson
from pydantic import BaseModel

from service.answers import Answer
from service.manifest import Manifest


class Candidate(BaseModel):
    """A class and its probability."""

    label: str
    probability: float


class Timings(BaseModel):
    """Milliseconds: waiting for the model, in the model, and from the first byte read to the answer."""

    queue: float
    compute: float
    total: float


class PredictAnswer(BaseModel):
    """The model and version that ran, and for each row its label, its K probabilities and its best classes."""

    model: str
    version: int
    labels: list[str]
    probabilities: list[list[float]]
    top_k: list[list[Candidate]]
    deferred: list[bool] | None = None
    timings_ms: Timings


def render(manifest: Manifest, answer: Answer, temperature: float, top_k: int, started: float) -> bytes:
    """The JSON of a PredictAnswer; `started` is when the request began, on the clock of perf_counter."""
    classes, probabilities = manifest.classes, answer.probabilities(temperature)
    candidates = [
        [{"label": classes[k], "probability": row[k]} for k in order[:top_k]]
        for row, order in zip(probabilities, answer.order, strict=True)
    ]
    seconds = {"queue": answer.queue_s, "compute": answer.run.seconds, "total": perf_counter() - started}
    return orjson.dumps(
        {
            "model": manifest.name,
            "version": manifest.version,
            "labels": [row[0]["label"] for row in candidates],
            "probabilities": probabilities,
            "top_k": candidates,
            **({} if answer.deferred_N is None else {"deferred": answer.deferred_N.tolist()}),
            "timings_ms": {name: round(1000 * value, 4) for name, value in seconds.items()},
        }
    )
