"""Micro-batching: what queued while a model was busy runs next, in one run.

There is no timer: a lone request runs at once, and under load the batches grow by themselves. A quick run, to which a
hop to a thread and back would add a tenth or more, runs in the event loop; any other in a thread, so that the loop
goes on. It knows models and queues, not requests or routes. All of it is called in the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from service.answers import Answer, Run
from service.cascade import Cascade
from service.errors import BusyError, LateError, ModelError, StillroomError
from service.jobs import Done, Job, Outcome
from service.model import Model, Prediction
from service.relay import Relay
from service.statistics import Statistics, Tally
from service.tracing import Tracing

log = logging.getLogger("service")

SWEEP_S = 0.1
"""How often the queues of busy models are searched for requests that have waited for too long."""


class Batcher:
    """Runs each model, one batch of at most `max_batch` rows at a time.

    At most `max_queue` rows wait for a model, so that it cannot starve the others of memory, and none of them for
    longer than `timeout_s` seconds.
    """

    def __init__(self, max_batch: int, statistics: Statistics, *, max_queue: int, timeout_s: float) -> None:
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._timeout_s = timeout_s
        self.tracing: Tracing | None = None
        self._statistics = statistics
        self._sweeping: asyncio.TimerHandle | None = None
        self._lines: dict[Model, _Line] = {}  # of the models that are busy, so that an old one can go

    async def predict(self, model: Model, inputs: NDArray[np.float32]) -> Answer:
        """Answers for float32 [N, ...]; N is at most `max_batch`.

        Raises ModelError where the graph fails, BusyError where the queue is full, LateError where it is too slow.
        """
        settled: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        job = self.submit(model, inputs, lambda outcome: None if settled.done() else settled.set_result(outcome))
        try:
            outcome = await settled
        except asyncio.CancelledError:
            job.given_up = True
            raise
        if isinstance(outcome, StillroomError):
            raise outcome
        return outcome

    def submit(self, model: Model, inputs: NDArray[np.float32], done: Done) -> Job | Relay:
        """Queues the rows float32 [N, ...]; `done` is called once with their answer or an error, unless given up.

        Raises BusyError where too many rows wait already.
        """
        if isinstance(model, Cascade):
            return Relay(model, inputs, done, self._queue, self._statistics)
        return self._queue(model, inputs, done)

    def _queue(self, model: Model, inputs: NDArray[np.float32], done: Done) -> Job:
        job = Job(inputs, done)
        if self.tracing is not None:
            job.trace = self.tracing.current()
        line = self._lines.get(model)
        if line is None:
            line = self._lines[model] = _Line(model, self._statistics.of(model), asyncio.get_running_loop())
            line.loop.call_soon(self._next, line)
        elif line.rows and line.rows + len(inputs) > model.manifest.input.rows_of(self._max_queue):
            self._statistics.failed(model, "full", 0.0)
            raise BusyError(f"{line.rows} rows wait for {model.place} already: it is too busy, try again")
        line.add(job)
        return job

    def _next(self, line: _Line) -> None:
        """Runs the next batch of a model, or leaves it where nothing waits."""
        most = line.model.manifest.input.rows_of(self._max_batch)
        batch = line.take(most, partial(self._is_wanted, line.model))
        if not batch:
            del self._lines[line.model]
            return
        if sum(len(job.inputs) for job in batch) <= line.model.quick_rows:
            try:
                outcome: _Timed | Exception = _timed(line.model, batch)
            except Exception as error:  # onnxruntime's own exceptions share no other base class
                outcome = error
            self._settle(line, batch, outcome)
            return
        line.running = batch
        if self._sweeping is None:
            self._sweeping = line.loop.call_later(SWEEP_S, self._sweep)
        run = line.loop.run_in_executor(None, _timed, line.model, batch)
        run.add_done_callback(lambda ran: self._settle(line, batch, ran.exception() or ran.result()))

    def _settle(self, line: _Line, batch: Sequence[Job], outcome: _Timed | BaseException) -> None:
        """Gives each request its rows; where a batch failed, each of it runs alone, and fails alone."""
        line.running = ()
        if isinstance(outcome, BaseException):
            self._failed(line, batch, outcome)
        else:
            started, seconds, prediction = outcome
            self._answer(line.model, batch, started, Run(prediction, seconds))
        line.loop.call_soon(self._next, line)

    def _answer(self, model: Model, batch: Sequence[Job], started: float, run: Run) -> None:
        self._statistics.ran(model, len(run.prediction.logits_BK), run.seconds)
        first = 0
        for job in batch:
            rows = slice(first, first := first + len(job.inputs))
            if self._is_wanted(model, job):
                job.settled = True
                answer = Answer(run, rows, started - job.queued)
                self._statistics.answered(model, len(job.inputs), answer.queue_s, run.seconds)
                if self.tracing is not None:
                    self.tracing.ran(job.trace, answer.queue_s, run.seconds, _attributes(model, job, run))
                job.done(answer)

    def _failed(self, line: _Line, batch: Sequence[Job], error: BaseException) -> None:
        if len(batch) > 1:
            line.put_back(batch)
            return
        place, (job,) = line.model.place, batch
        log.error("%s failed on %d rows", place, len(job.inputs), exc_info=error)
        reason = ModelError(f"{place}: the graph failed on these inputs; the log has the reason")
        self._refuse(line.model, job, "graph", reason)

    def _sweep(self) -> None:
        """Looks for what has waited for too long, and again as long as a model is busy."""
        self._sweeping = None
        for line in list(self._lines.values()):
            self._refuse_late(line)
            if self._sweeping is None:
                self._sweeping = line.loop.call_later(SWEEP_S, self._sweep)

    def _refuse_late(self, line: _Line) -> None:
        """Both in the queue and in the run."""
        oldest = perf_counter() - self._timeout_s
        for job in [*line.running, *line.jobs]:
            if job.began >= oldest:
                continue
            self._refuse(
                line.model,
                job,
                "timeout",
                LateError(
                    f"{line.model.place} gave no answer within {self._timeout_s:g} s: it is too busy, or too slow"
                ),
            )

    def _refuse(self, model: Model, job: Job, reason: str, error: StillroomError) -> None:
        if self._is_wanted(model, job):
            job.settled = True
            self._statistics.failed(model, reason, perf_counter() - job.queued)
            job.done(error)

    def _is_wanted(self, model: Model, job: Job) -> bool:
        """Whether it is still to be answered; counts one whose client has gone."""
        if job.given_up and not job.settled:
            job.settled = True
            self._statistics.failed(model, "gone", perf_counter() - job.queued)
        return not job.settled


class _Line:
    """What waits for one model, in order."""

    def __init__(self, model: Model, tally: Tally, loop: asyncio.AbstractEventLoop) -> None:
        self.model = model
        self.tally = tally
        self.loop = loop
        self.jobs: deque[Job] = deque()
        self.rows = 0
        self.running: Sequence[Job] = ()

    def add(self, job: Job) -> None:
        self.jobs.append(job)
        self._count(len(job.inputs))

    def put_back(self, batch: Sequence[Job]) -> None:
        """To the front, each to run alone."""
        for job in reversed(batch):
            job.alone = True
            self.jobs.appendleft(job)
            self._count(len(job.inputs))

    def take(self, max_batch: int, is_wanted: Callable[[Job], bool]) -> list[Job]:
        """The next batch, as far as it fits, of what is still wanted."""
        batch: list[Job] = []
        rows = 0
        while self.jobs and (not batch or not (batch[0].alone or rows + len(self.jobs[0].inputs) > max_batch)):
            job = self.jobs.popleft()
            self._count(-len(job.inputs))
            if is_wanted(job):
                batch.append(job)
                rows += len(job.inputs)
        return batch

    def _count(self, rows: int) -> None:
        self.rows += rows
        self.tally.waiting += rows


def _attributes(model: Model, job: Job, run: Run) -> dict[str, str | int]:
    return {
        "stillroom.model": model.manifest.name,
        "stillroom.version": model.manifest.version,
        "stillroom.rows": len(job.inputs),
        "stillroom.batch_rows": len(run.prediction.logits_BK),
    }


_Timed = tuple[float, float, Prediction]
"""When a run started, how many seconds it took, and what it gave."""


def _timed(model: Model, batch: Sequence[Job]) -> _Timed:
    inputs = np.concatenate([job.inputs for job in batch])  # of one too: its bytes may lie unaligned in a body
    started = perf_counter()
    prediction = model.run(inputs)
    return started, perf_counter() - started, prediction
