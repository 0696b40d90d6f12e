"""Micro-batching: what queued while a model was busy runs next, in one run.

There is no timer: a lone request runs at once, and under load the batches grow by themselves. It knows models and
queues, not requests or routes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.errors import ModelError
from service.model import Model, Prediction
from service.statistics import Statistics

log = logging.getLogger("service")


class Answer(NamedTuple):
    """The prediction for the rows of one request, how long they waited, and how long the run that held them took."""

    prediction: Prediction
    queue_s: float
    compute_s: float


class Job(NamedTuple):
    """The rows of one request that waits for its answer."""

    inputs: NDArray[np.float32]
    answer: asyncio.Future[Answer]
    queued: float


class Batcher:
    """Runs each model in a worker thread, one batch of at most `max_batch` rows at a time; `runs` counts them."""

    def __init__(self, max_batch: int) -> None:
        self._max_batch = max_batch
        self.runs = 0
        self.statistics = Statistics()
        self._queues: dict[Model, deque[Job]] = {}  # of the models that are busy, so that an old one can go
        self._runners: set[asyncio.Task[None]] = set()

    async def predict(self, model: Model, inputs: NDArray[np.float32]) -> Answer:
        """Answers for float32 [N, ...]; N is at most `max_batch`. Raises ModelError where the graph fails."""
        job = Job(inputs, asyncio.get_running_loop().create_future(), perf_counter())
        if model in self._queues:
            self._queues[model].append(job)
        else:
            self._queues[model] = deque([job])
            runner = asyncio.create_task(self._run_all(model))
            self._runners.add(runner)
            runner.add_done_callback(self._runners.discard)
        try:
            answer = await job.answer
        except ModelError:
            self.statistics.failed(model, perf_counter() - job.queued)
            raise
        self.statistics.answered(model, len(inputs), answer.queue_s, answer.compute_s)
        return answer

    async def _run_all(self, model: Model) -> None:
        try:
            while batch := self._next_batch(self._queues[model]):
                self.runs += 1
                await self._run(model, batch)
        finally:
            del self._queues[model]

    def _next_batch(self, queue: deque[Job]) -> list[Job]:
        """What waits, in order, as far as it fits; a request that was given up meanwhile is left out."""
        batch: list[Job] = []
        rows = 0
        while queue and (not batch or rows + len(queue[0].inputs) <= self._max_batch):
            job = queue.popleft()
            if not job.answer.done():
                batch.append(job)
                rows += len(job.inputs)
        return batch

    async def _run(self, model: Model, batch: list[Job]) -> None:
        """Runs one batch and gives each request its rows; where it fails, each runs alone, and fails alone."""
        try:
            started, ended, prediction = await asyncio.to_thread(_timed, model, batch)
        except Exception:  # onnxruntime's own exceptions share no other base class
            if len(batch) > 1:
                for job in batch:
                    await self._run(model, [job])
                return
            place = f"{model.manifest.name}/{model.manifest.version}"
            log.exception("%s failed on %d rows", place, len(batch[0].inputs))
            _settle(batch[0], ModelError(f"{place}: the graph failed on these inputs; the log has the reason"))
            return
        self.statistics.ran(model, len(prediction.logits_BK), ended - started)
        first = 0
        for job in batch:
            rows = slice(first, first := first + len(job.inputs))
            part = Prediction(prediction.probabilities_BK[rows], prediction.logits_BK[rows])
            _settle(job, Answer(part, started - job.queued, ended - started))


def _settle(job: Job, outcome: Answer | ModelError) -> None:
    if job.answer.done():  # the request was given up meanwhile
        return
    if isinstance(outcome, ModelError):
        job.answer.set_exception(outcome)
    else:
        job.answer.set_result(outcome)


def _timed(model: Model, batch: list[Job]) -> tuple[float, float, Prediction]:
    started = perf_counter()
    prediction = model.run(np.concatenate([job.inputs for job in batch]))
    return started, perf_counter(), prediction
