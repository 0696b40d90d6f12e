"""A model on CUDA from fixed buffers: a batch is padded to one of a few sizes, for each of which a run was recorded.

A small network on a GPU waits for its kernels to be launched rather than for their products; a recorded run (a CUDA
graph) launches them all at once. Its shapes and addresses are fixed, and so each size has an input and outputs of its
own on the device. A size is taken only where its runs are quicker than those of the session as it is, and the same:
both are seen when the model is loaded. It knows sessions and arrays, not models or requests.
https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html (Using CUDA Graphs)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from threading import Lock
from time import perf_counter

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime import OrtValue

Floats = NDArray[np.float32]

SIZES = (1, 4, 16, 64, 256)
"""Rows; a larger batch has enough to compute."""
TOLERANCE = 1e-4
RUNS = 10
GRAPH_ID = "gpu_graph_id"
NOT_RECORDED = "-1"


def not_recorded() -> onnxruntime.RunOptions:
    """Of a run as any session makes it, on one that could record."""
    return _options(NOT_RECORDED)


def _options(graph_id: str) -> onnxruntime.RunOptions:
    options = onnxruntime.RunOptions()
    options.add_run_config_entry(GRAPH_ID, graph_id)
    return options


class Bucket:
    """One size. The first run records."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        rows: int,
        shape: Sequence[int],
        outputs: Sequence[str],
        classes: int,
        device: str,
    ) -> None:
        self.rows = rows
        self._session = session
        self._padded = np.zeros((rows, *shape), np.float32)
        self._input = OrtValue.ortvalue_from_numpy(self._padded.copy(), device, 0)
        self._outputs = [OrtValue.ortvalue_from_shape_and_type((rows, classes), np.float32, device, 0) for _ in outputs]
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input("input", self._input)
        for name, value in zip(outputs, self._outputs, strict=True):
            self._binding.bind_ortvalue_output(name, value)
        self._options = _options(str(rows))

    def run(self, inputs: Floats) -> list[Floats]:
        """The outputs for [B, ...], at most `rows` of them, each [B, K]."""
        given = len(inputs)
        self._padded[:given] = inputs  # behind them are rows of before, whose answers nobody reads
        self._input.update_inplace(self._padded)
        self._binding.synchronize_inputs()
        self._session.run_with_iobinding(self._binding, self._options)
        return [np.array(value.numpy()[:given]) for value in self._outputs]


class Recorded:
    """Buckets of several sizes, for one batch at a time: a second thread waits."""

    def __init__(self, buckets: Sequence[Bucket]) -> None:
        self._buckets = sorted(buckets, key=lambda bucket: bucket.rows)
        self._lock = Lock()

    @property
    def sizes(self) -> list[int]:
        """Rows of each bucket."""
        return [bucket.rows for bucket in self._buckets]

    def run(self, inputs: Floats) -> list[Floats] | None:
        """The outputs for [B, ...] by the smallest bucket that holds them; None where there is none."""
        fitting = next((bucket for bucket in self._buckets if bucket.rows >= len(inputs)), None)
        if fitting is None:
            return None
        with self._lock:
            return fitting.run(inputs)


def record(
    session: onnxruntime.InferenceSession,
    shape: Sequence[int],
    outputs: Sequence[str],
    classes: int,
    *,
    device: str = "cuda",
    sizes: Sequence[int] = SIZES,
) -> Recorded | None:
    """The sizes at which recorded runs of a session are quicker and give the same; None without any.

    `session` was opened to record; `outputs` are the names of those that are [B, classes]. Raises ValueError where a
    recorded run gives something else, and onnxruntime's own exceptions where none can be had.
    """
    buckets = [Bucket(session, rows, shape, outputs, classes, device) for rows in sizes]
    quicker = [bucket for bucket in buckets if _pays(bucket, session, shape, outputs)]
    return Recorded(quicker) if quicker else None


def _pays(bucket: Bucket, session: onnxruntime.InferenceSession, shape: Sequence[int], outputs: Sequence[str]) -> bool:
    """Whether it is quicker. Raises ValueError where it gives something else."""
    options, random = not_recorded(), np.random.default_rng(0)

    def plain(inputs: Floats) -> list[Floats]:
        return list(session.run(list(outputs), {"input": inputs}, options))

    for _ in range(3):  # other numbers each time: a buffer that is not filled anew would not be seen otherwise
        inputs = random.random((bucket.rows, *shape), np.float32)
        for mine, theirs in zip(bucket.run(inputs), plain(inputs), strict=True):
            if not np.allclose(mine, theirs, rtol=TOLERANCE, atol=TOLERANCE):
                raise ValueError(f"of {bucket.rows} rows they give something else than the session does")
    return _seconds(bucket.run, inputs) < _seconds(plain, inputs)


def _seconds(run: Callable[[Floats], object], inputs: Floats) -> float:
    found = []
    for _ in range(RUNS):
        started = perf_counter()
        run(inputs)
        found.append(perf_counter() - started)
    return median(found)
