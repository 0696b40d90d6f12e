"""The rows of one request that wait for a model, and what comes of them. It knows no queues."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.answers import Answer
from service.errors import StillroomError

Outcome = Answer | StillroomError
Done = Callable[[Outcome], None]


class Job:
    """The rows of one request that waits for its answer; whoever no longer wants it sets `given_up`."""

    __slots__ = ("alone", "began", "done", "given_up", "inputs", "queued", "settled", "trace")

    def __init__(self, inputs: NDArray[np.float32], done: Done) -> None:
        self.inputs = inputs
        self.done = done
        self.queued = perf_counter()
        self.began = self.queued  # earlier, where another model was asked first: from here on it may be too late
        self.given_up = False
        self.settled = False
        self.trace: Any = None  # to which its spans belong
        self.alone = False  # after a run that failed: to see which of its requests it was
