"""One request to a cascade on its way: all of its rows through the student's line, the deferred ones through the
ensemble's, and one answer. It knows jobs, not queues or formats. All of it is called in the event loop.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.answers import Answer, Run
from service.cascade import Cascade, merged
from service.errors import StillroomError
from service.jobs import Done, Job, Outcome
from service.model import Model
from service.statistics import Statistics

Submit = Callable[[Model, NDArray[np.float32], Done], Job]
"""Queues rows for a model. Raises BusyError where too many wait already."""


class Relay:
    """To whoever asked, it is a job: it is given up like one. Its timeout is one, whichever of the two it waits for."""

    def __init__(
        self, cascade: Cascade, inputs: NDArray[np.float32], done: Done, submit: Submit, statistics: Statistics
    ) -> None:
        self._cascade = cascade
        self._inputs = inputs
        self._done = done
        self._submit = submit
        self._statistics = statistics
        self._started = perf_counter()
        self._job: Job = submit(cascade.student, inputs, self._first)
        self._trace: Any = self._job.trace

    @property
    def given_up(self) -> bool:
        """Whether nobody wants the answer any more."""
        return self._job.given_up

    @given_up.setter
    def given_up(self, gone: bool) -> None:
        self._job.given_up = gone
        if gone:  # it will not be called; what knows it must not wait for a collection of garbage
            self._job.done = _nobody

    def _first(self, outcome: Outcome) -> None:
        """What the student said."""
        if isinstance(outcome, StillroomError):
            self._end(outcome)
            return
        deferred_N = self._cascade.defers(outcome.prediction.logits_BK)
        if not deferred_N.any():
            self._end(outcome._replace(deferred_N=deferred_N))
            return
        began = self._job.began
        merge = partial(self._second, outcome, deferred_N)
        try:
            self._job = self._submit(self._cascade.ensemble, self._inputs[deferred_N], merge)
        except StillroomError as error:
            self._end(error)
        else:  # it runs in a later turn of the loop, whose context is that of another request
            self._job.began, self._job.trace = began, self._trace

    def _second(self, first: Answer, deferred_N: NDArray[np.bool_], second: Outcome) -> None:
        """What the ensemble said of the deferred rows."""
        if isinstance(second, StillroomError):
            self._end(second)
            return
        run = Run(merged(first.prediction, second.prediction, deferred_N), first.run.seconds + second.run.seconds)
        self._end(Answer(run, slice(0, len(deferred_N)), first.queue_s + second.queue_s, deferred_N))

    def _end(self, outcome: Outcome) -> None:
        if isinstance(outcome, StillroomError):
            self._statistics.relay_failed(self._cascade, perf_counter() - self._started)
        else:
            assert outcome.deferred_N is not None
            deferred = int(np.count_nonzero(outcome.deferred_N))
            rows, compute_s = len(outcome.deferred_N), outcome.run.seconds
            self._statistics.relayed(self._cascade, rows, deferred, outcome.queue_s, compute_s)
        self._job.done = _nobody  # as above
        self._done(outcome)


def _nobody(_outcome: Outcome) -> None:
    """Is not told."""
