"""service/recorded.py without a GPU: buffers of fixed sizes on the CPU, whose runs are bound but not recorded.

What a GPU adds, tests/test_gpu.py has.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from service.model import open_model, open_recorded, read_stored
from service.recorded import Bucket, Recorded, not_recorded, record
from service.session import open_session
from tests.repositories import known_logits, known_probabilities, linear_graph, write_model

OUTPUTS = ["probabilities", "logits"]
SHAPE, CLASSES = (3, 2), 5


@pytest.fixture(scope="module")
def session() -> onnxruntime.InferenceSession:
    return open_session(linear_graph(SHAPE, CLASSES, seed=1), device="cpu", threads=1)


def recorded(session: onnxruntime.InferenceSession, *sizes: int) -> Recorded:
    return Recorded([Bucket(session, rows, SHAPE, OUTPUTS, CLASSES, "cpu") for rows in sizes])


def drawn(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((rows, *SHAPE)).astype(np.float32)


def check(answers: list[np.ndarray] | None, inputs: np.ndarray) -> None:
    assert answers is not None
    np.testing.assert_allclose(answers[0], known_probabilities(inputs, classes=CLASSES, seed=1), atol=1e-6)
    np.testing.assert_allclose(answers[1], known_logits(inputs, classes=CLASSES, seed=1), atol=1e-5)


def test_batches_of_any_size_get_their_own_answers(session: onnxruntime.InferenceSession):
    """Not those of the rows behind them in the buffer; what was answered stays when the buffer is used again."""
    made = recorded(session, 16, 1, 4)
    assert made.sizes == [1, 4, 16]
    kept = []
    for rows in np.random.default_rng(0).permutation(range(1, 17)):
        inputs = drawn(rows, seed=rows)
        kept.append((made.run(inputs), inputs))
    for answers, inputs in kept:
        check(answers, inputs)


def test_more_rows_than_any_size_holds_are_left_to_the_session(session: onnxruntime.InferenceSession):
    """Which has no size."""
    assert recorded(session, 1, 4).run(drawn(5)) is None


def test_threads_take_turns(session: onnxruntime.InferenceSession):
    """There is one buffer of each size."""
    made = recorded(session, 8)
    with ThreadPoolExecutor(8) as pool:
        inputs = [drawn(8, seed) for seed in range(300)]
        for given, answers in zip(inputs, pool.map(made.run, inputs), strict=True):
            check(answers, given)


class SlowAsItIs(onnxruntime.InferenceSession):
    def run(self, output_names, input_feed, run_options=None):
        time.sleep(0.005)
        return super().run(output_names, input_feed, run_options)


class SlowFromBuffers(onnxruntime.InferenceSession):
    def run_with_iobinding(self, iobinding, run_options=None):
        super().run_with_iobinding(iobinding, run_options)
        time.sleep(0.005)


def test_only_sizes_at_which_it_is_quicker_are_kept():
    """All of them, or none."""
    graph = linear_graph(SHAPE, CLASSES, seed=1)
    made = record(SlowAsItIs(graph), SHAPE, OUTPUTS, CLASSES, device="cpu", sizes=(1, 2, 64))
    assert made is not None
    assert made.sizes == [1, 2, 64]
    check(made.run(drawn(1)), drawn(1))
    assert record(SlowFromBuffers(graph), SHAPE, OUTPUTS, CLASSES, device="cpu", sizes=(2, 64)) is None


def test_a_run_that_is_not_recorded_is_any_run(session: onnxruntime.InferenceSession):
    check(list(session.run(OUTPUTS, {"input": drawn(3)}, not_recorded())), drawn(3))


def test_what_cannot_be_bound_is_an_error(session: onnxruntime.InferenceSession):
    """Another number of classes than the graph has."""
    with pytest.raises(Exception, match=r"probabilities|logits"):
        record(session, SHAPE, OUTPUTS, CLASSES + 1, device="cpu")


def test_where_there_is_no_card_the_log_says_why_and_the_session_serves_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Here there is none, or it is not asked for."""
    stored = read_stored(write_model(tmp_path))
    with caplog.at_level(logging.WARNING, "service"):
        assert open_recorded(stored, "cpu", threads=1) is None
    assert "digits-student/1: runs are not recorded: " in caplog.text
    assert open_model(stored, device="cpu", threads=1).recorded is None


class Forgetful(onnxruntime.InferenceSession):
    """Answers from a buffer that it does not read again, as a recorded run would of an input elsewhere."""

    def run_with_iobinding(self, iobinding, run_options=None):
        if not hasattr(self, "done"):
            self.done = super().run_with_iobinding(iobinding, run_options)


def test_another_answer_is_never_kept():
    """However quick it is."""
    session = Forgetful(linear_graph(SHAPE, CLASSES, seed=1), providers=["CPUExecutionProvider"])
    with pytest.raises(ValueError, match="of 2 rows they give something else than the session does"):
        record(session, SHAPE, OUTPUTS, CLASSES, device="cpu", sizes=(2,))
