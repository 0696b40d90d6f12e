"""How models are timed: what runs, in which order, and what counts. Never how fast."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

from service.comparison.data import Data
from service.comparison.measurement import Plan, measure
from service.comparison.speed import FEWEST_CALLS, Stream, batches, block_s, timed_blocks
from service.errors import InputError
from service.machine import processor
from service.model import Model, Prediction, load_model
from tests.repositories import examples, write_model


class Watched(Model):
    """A real model that also writes down what it was given and whether garbage was being collected."""

    def run(self, inputs: np.ndarray) -> Prediction:  # type: ignore[type-arg]
        self.given.append(inputs)
        self.collecting.add(gc.isenabled())
        return super().run(inputs)


@pytest.fixture
def model(tmp_path: Path) -> Watched:
    loaded = load_model(write_model(tmp_path), device="cpu")
    watched = Watched(loaded.manifest, loaded.session)
    watched.given, watched.collecting = [], set()
    return watched


def test_inputs_are_cut_into_batches_and_the_last_is_filled_from_the_start() -> None:
    parts = batches(np.arange(10, dtype=np.float32).reshape(5, 2), 3)
    assert [part[:, 0].tolist() for part in parts] == [[0, 2, 4], [6, 8, 0]]


def test_fewer_inputs_than_a_batch_has_rows_repeat_in_it() -> None:
    (part,) = batches(np.arange(2, dtype=np.float32).reshape(2, 1), 5)
    assert part[:, 0].tolist() == [0, 1, 0, 1, 0]


def test_a_stream_goes_through_its_batches_in_rotation(model: Watched) -> None:
    """A later block goes on where the one before it stopped."""
    parts = batches(examples(5)[0], 2)
    stream = Stream(model, parts)
    calls = len(stream.run(0.0)) + len(stream.run(0.0))
    assert calls == 2 * FEWEST_CALLS
    assert [id(given) for given in model.given] == [id(parts[call % 3]) for call in range(calls)]


def test_each_round_runs_every_stream_once_in_an_order_that_the_seed_gives(model: Watched) -> None:
    streams = [Stream(model, batches(examples(4)[0], 2)) for _ in range(2)]
    order = np.random.default_rng(4)
    expected = [int(index) for _ in range(3) for index in order.permutation(2)]
    assert [index for index, _ in timed_blocks(streams, 3, np.random.default_rng(4))] == expected
    assert expected != [0, 1] * 3


def test_a_block_lasts_200_ms_without_garbage_collection_and_its_first_tenth_does_not_count(model: Watched) -> None:
    stream = Stream(model, batches(examples(4)[0], 2))
    ((_, kept),) = timed_blocks([stream], 1, np.random.default_rng(0))
    assert len(kept) == len(model.given) * 9 // 10
    assert 0.0 < kept.sum() < 60.0
    assert model.collecting == {False}
    assert gc.isenabled()


def test_a_block_of_long_calls_has_three_of_them() -> None:
    """One to discard and two to keep, however long that takes."""
    assert block_s(0.001) == 0.2
    assert block_s(0.5) == 1.5


def data(count: int = 4) -> Data:
    return Data(*examples(count), dataset=None, limit=None, sha256="0" * 64)


def test_a_batch_size_of_1_is_measured_once_and_answers_come_in_runs_of_max_batch(model: Watched) -> None:
    one, other = measure([model, model], data(7), Plan(batch=1, blocks=3, seed=0, max_batch=3))
    assert list(one.blocks) == list(other.blocks) == [1]
    assert [len(one.blocks[1]), len(other.blocks[1])] == [3, 3]
    assert len(one.log_p_NK) == 7
    assert {len(given) for given in model.given} == {1, 3}


def test_a_comparison_of_more_than_a_minute_is_refused_before_it_starts(model: Watched) -> None:
    with pytest.raises(InputError) as refused:
        measure([model] * 4, data(), Plan(batch=2, blocks=100, seed=0, max_batch=8))
    assert str(refused.value) == (
        "this comparison would take 160 s, expected at most 60 s: 100 blocks of 0.2 to 0.2 s for each of 8 pairs of "
        "model and batch size, and 0 s for the answers; ask for fewer blocks, models or examples, or a smaller batch"
    )
    assert model.given == []


def test_the_processor_is_named_as_the_kernel_names_it_or_by_its_architecture(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Z80 @ 4 MHz\n\nprocessor\t: 1\nmodel name\t: Z80 @ 4 MHz\n")
    assert processor(cpuinfo) == "Z80 @ 4 MHz"
    cpuinfo.write_text("processor\t: 0\nBogoMIPS\t: 50.00\n")
    assert processor(cpuinfo) == processor(tmp_path / "none") != ""
