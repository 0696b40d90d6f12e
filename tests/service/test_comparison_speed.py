"""How models are timed: what runs, in which order, and what counts. Never how fast."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.comparison.data import Data
from service.comparison.measurement import measure
from service.comparison.plan import Plan
from service.comparison.speed import FEWEST_CALLS, Stream, batches, block_s, timed_blocks, turns
from service.comparison.statistics import speed_up
from service.comparison.subject import Subject
from service.errors import InputError
from service.machine import processor
from service.measures import Estimate
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
    ((_, block),) = timed_blocks([stream], 1, np.random.default_rng(0))
    assert block.calls == len(model.given)
    assert len(block.kept_s) == block.calls * 9 // 10
    assert 0.0 < block.kept_s.sum() < 60.0
    assert 0.0 < block.cpu_s < 60.0
    assert block.joules is None
    assert model.collecting == {False}
    assert gc.isenabled()


def test_a_block_of_long_calls_has_three_of_them() -> None:
    """One to discard and two to keep, however long that takes."""
    assert block_s(0.001) == 0.2
    assert block_s(0.5) == 1.5


def data(count: int = 4) -> Data:
    return Data(*examples(count), dataset=None, limit=None, sha256="0" * 64)


def subject(model: Model, **fields: Any) -> Subject:
    manifest = model.manifest
    about: dict[str, Any] = {"name": manifest.name, "version": 1, "role": "student", "classes": manifest.classes}
    return Subject(**{**about, "shape": manifest.input.shape, "answering": model, **fields})


def test_a_batch_size_of_1_is_measured_once_and_answers_come_in_runs_of_max_batch(model: Watched) -> None:
    one, other = measure([subject(model)] * 2, data(7), Plan(batch=1, blocks=3, seed=0, max_batch=3))
    assert list(one.blocks) == list(other.blocks) == [1]
    assert [len(one.blocks[1]), len(other.blocks[1])] == [3, 3]
    assert len(one.log_p_NK) == 7
    assert {len(given) for given in model.given} == {1, 3}
    assert (one.flips.sizes, one.flips.examples, one.flips.flips) == ((1, 1), 7, 0)


def test_a_comparison_of_more_than_ten_minutes_is_refused_before_it_starts(model: Watched) -> None:
    with pytest.raises(InputError) as refused:
        measure([subject(model)] * 16, data(), Plan(batch=2, blocks=100, seed=0, max_batch=8))
    assert str(refused.value) == (
        "this comparison would take 640 s, expected at most 600 s: ask for fewer blocks, calls, models, examples or "
        "scenarios, or a smaller batch"
    )
    assert model.given == []


class Slow(Model):
    """A real model each of whose runs takes so many milliseconds longer, awake."""

    def run(self, inputs: np.ndarray) -> Prediction:  # type: ignore[type-arg]
        until = time.perf_counter() + self.extra_s
        answer = super().run(inputs)
        while time.perf_counter() < until:
            pass
        return answer


def slow(tmp_path: Path, extra_s: float) -> Subject:
    loaded = load_model(write_model(tmp_path / str(extra_s)), device="cpu")
    model = Slow(loaded.manifest, loaded.session)
    model.extra_s = extra_s
    return subject(model)


def test_more_calls_take_more_blocks(tmp_path: Path) -> None:
    """Calls of 20 ms: a block of 200 ms has about 10, of which the first does not count."""
    (one,) = measure([slow(tmp_path, 0.02)], data(), Plan(batch=1, blocks=3, seed=0, max_batch=8, calls=30))
    assert sum(len(block.kept_s) for block in one.blocks[1]) >= 30
    assert 4 <= len(one.blocks[1]) <= 8


class Machine:
    """A machine whose time passes only while a model runs: each block has a mood, and each call a tail to the right."""

    def __init__(self, seed: int) -> None:
        self.now_ns = 0
        self.random = np.random.default_rng(seed)
        self.moods = np.exp(self.random.normal(0.0, 0.02, 10_000))

    def clock(self) -> int:
        return self.now_ns

    def takes(self, mean_ns: float) -> None:
        mood = self.moods[self.now_ns // 200_000_000]
        self.now_ns += int(mean_ns * mood * self.random.gamma(4.0, 0.25))


@dataclass
class Timed:
    """A model whose runs take so many nanoseconds on that machine."""

    machine: Machine
    mean_ns: float

    def run(self, inputs: np.ndarray) -> Prediction:  # type: ignore[type-arg]
        self.machine.takes(self.mean_ns)
        return Prediction(inputs, inputs)


def measured_speed_up(seed: int, slowdown: float) -> Estimate:
    machine, rows = Machine(seed), batches(examples(4)[0], 1)
    streams = [Stream(Timed(machine, 100_000 * factor), rows, machine.clock) for factor in (1.0, slowdown)]
    blocks: list[list[Any]] = [[], []]
    for index, block in timed_blocks(streams, 10, np.random.default_rng(seed)):
        blocks[index].append(block.kept_s)
    return speed_up(*blocks, seed=seed)


def test_a_model_against_itself_has_a_speed_up_of_1_within_its_interval() -> None:
    """Through the very blocks and the very interval of a comparison, on a machine whose truth is known."""
    found = [measured_speed_up(seed, 1.0) for seed in range(30)]
    assert np.mean([end.low <= 1.0 <= end.high for _, end in found]) >= 0.9


def test_a_slowdown_of_5_percent_is_found() -> None:
    found = [measured_speed_up(seed, 1.05) for seed in range(30)]
    assert np.mean([end.low > 1.0 for _, end in found]) >= 0.95
    assert np.mean([end.low <= 1.05 <= end.high for _, end in found]) >= 0.9


def test_the_best_batch_is_the_one_of_most_rows_a_second_and_is_timed_in_full(tmp_path: Path) -> None:
    """Every run takes 5 ms however many rows it has: the largest is the best."""
    plan = Plan(batch=2, blocks=3, seed=0, max_batch=8, scenarios=("offline",))
    (one,) = measure([slow(tmp_path, 0.005)], data(8), plan)
    assert list(one.tried) == [1, 2, 8]
    assert one.best == 8
    assert list(one.blocks) == [1, 2]
    assert [block.calls > 0 for block in one.offline] == [True] * 3
    assert one.at_best is one.offline
    assert one.tried[8] == pytest.approx(8 / 0.005, rel=0.2)


def test_turns_give_each_model_one_call_after_the_other(model: Watched) -> None:
    inputs = examples(6)[0]
    streams = [Stream(model, batches(part, 1)) for part in (inputs[:3], inputs[3:])]
    (kept,) = turns(streams, 1, np.random.default_rng(0))
    first, second = (set(map(bytes, inputs[:3])), set(map(bytes, inputs[3:])))
    asked = [bytes(given[0]) for given in model.given]
    pairs = list(zip(asked[::2], asked[1::2], strict=True))
    assert all(first & {*pair} and second & {*pair} for pair in pairs)
    assert {pair[0] in first for pair in pairs[:20]} == {True, False}  # neither always comes first
    assert len(kept[0]) == len(kept[1]) == len(asked) // 2 * 9 // 10


def test_the_processor_is_named_as_the_kernel_names_it_or_by_its_architecture(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Z80 @ 4 MHz\n\nprocessor\t: 1\nmodel name\t: Z80 @ 4 MHz\n")
    assert processor(cpuinfo) == "Z80 @ 4 MHz"
    cpuinfo.write_text("processor\t: 0\nBogoMIPS\t: 50.00\n")
    assert processor(cpuinfo) == processor(tmp_path / "none") != ""
