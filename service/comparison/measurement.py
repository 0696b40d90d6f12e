"""Runs models on the same data: warm-up, answers, then timed blocks. It knows no HTTP, no repository, no report."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from service.comparison import speed, through_http
from service.comparison.arrivals import Served, poisson, serve
from service.comparison.data import Data
from service.comparison.energy import Meter, find_meter
from service.comparison.plan import Course, Plan
from service.comparison.quality import LogP, label_flips, log_probabilities
from service.comparison.remote import RemoteModel
from service.comparison.schema.quality import LabelFlips
from service.comparison.speed import Block, Stream
from service.comparison.statistics import FEWEST, Seconds
from service.comparison.subject import Subject
from service.comparison.through_http import Asked
from service.errors import InputError

LONGEST_S = 600.0
SIZES = (1, 8, 32, 64, 128, 256, 512, 1024)
"""Batch sizes that are tried for the best throughput, up to max_batch."""
LONGEST_TRIED_S = 0.1
"""No larger batch is tried where one takes so long: throughput has levelled off, and a block would take a second."""
SERVER_BLOCKS = 5
SERVER_S, SERVER_MOST_S = 0.4, 2.0
MOST_ARRIVALS = 20_000
"""In a block, which is shorter at a very high rate."""
"""A block of arrivals is so long, and longer at a low rate, so that a p99 can be told."""


@dataclass(frozen=True)
class Measured:
    """What one model did: log p [N, K] for the examples, whether labels flip between batch sizes, and the blocks of
    each batch size; the throughput of the sizes that were tried, blocks of the best of them,
    its turns, what it did with arrivals, and what it did
    behind its URL."""

    subject: Subject
    log_p_NK: LogP
    flips: LabelFlips
    blocks: Mapping[int, list[Block]]
    tried: Mapping[int, float] = field(default_factory=dict)
    offline: Sequence[Block] = ()
    turns: Sequence[Seconds] = ()
    served: Sequence[Served] = ()
    rate: float = 0.0
    asked: Asked | None = None

    @property
    def best(self) -> int:
        """The batch size of the highest throughput, of those that were tried."""
        return max(self.tried, key=self.tried.__getitem__)

    @property
    def at_best(self) -> Sequence[Block]:
        """The blocks of that size, which are those of a batch that was asked for where no other was tried."""
        return self.offline or self.blocks[self.best]

    def kept(self, size: int) -> list[Seconds]:
        """The latencies that count, block by block."""
        return [block.kept_s for block in self.blocks[size]]


def least_s(models: int, plan: Plan, slowest_s: float | None = None) -> float:
    """Seconds that measuring so many models takes at least, however quick they are; more is known where the slowest of
    them takes `slowest_s` for one row."""
    rounds = _rounds(plan, slowest_s) if slowest_s else plan.blocks
    blocks = models * len({1, plan.batch}) * rounds
    return blocks * speed.BLOCK_S + _further_s(models, plan, rounds)


def _rounds(plan: Plan, slowest_s: float) -> int:
    """As many as were asked for, and as the fewest calls take of a model that answers one row in so many seconds."""
    kept = (1 - speed.DISCARDED) * max(speed.FEWEST_CALLS, speed.BLOCK_S / slowest_s) - 1
    return max(plan.blocks, math.ceil(plan.calls / max(1.0, kept)))


def check_seconds(seconds: float) -> None:
    """Raises InputError where that is too long for a comparison."""
    if seconds > LONGEST_S:
        raise InputError(
            f"this comparison would take {seconds:.0f} s, expected at most {LONGEST_S:.0f} s: ask for fewer blocks, "
            "calls, models, examples or scenarios, or a smaller batch"
        )


def _further_s(models: int, plan: Plan, rounds: int) -> float:
    """What the scenarios take that were asked for beside."""
    seconds = 0.0
    if "alternating" in plan.scenarios:
        seconds += rounds * speed.BLOCK_S
    if "server" in plan.scenarios:
        seconds += models * min(SERVER_BLOCKS, rounds) * SERVER_S
    if "http" in plan.scenarios:
        seconds += through_http.seconds(models, plan)
    if "offline" in plan.scenarios:
        seconds += models * (rounds * speed.BLOCK_S + len(_tryable(plan)) * speed.WARM_UP_S)
    return seconds


def _tryable(plan: Plan) -> list[int]:
    """Batch sizes for the offline scenario."""
    return sorted({1, plan.batch, *(size for size in SIZES if size <= plan.max_batch)})


def measure(subjects: Sequence[Subject], data: Data, plan: Plan) -> list[Measured]:
    """Runs models that take the same inputs and know the same classes, never two at the same time.

    A batch size of 1 is measured once. Raises InputError where it would take more than ten minutes, and where an
    answer is not finite.
    """
    return _Measurement(subjects, data, plan).run()


class _Measurement:
    """One measurement, step by step; what a step finds, the next ones build on."""

    def __init__(self, subjects: Sequence[Subject], data: Data, plan: Plan) -> None:
        self.subjects = subjects
        self.data = data
        self.plan = plan
        self.remotes = _remotes(subjects) if "http" in plan.scenarios else []  # refused before anything is timed
        self.order = np.random.default_rng(plan.seed)
        self.course = Course(plan)
        self.meter: Meter | None = find_meter() if all(subject.is_here for subject in subjects) else None
        self.sizes = sorted({1, plan.batch})
        self.batches: dict[int, list[NDArray[np.float32]]] = {}  # the same for every subject
        self.streams: dict[tuple[int, int], Stream] = {}  # by index of the subject and batch size

    def run(self) -> list[Measured]:
        """All steps."""
        self._expect([speed.BLOCK_S] * len(self.subjects) * len(self.sizes), self.plan.blocks)
        self.course.now("warming up")
        call_s = {size: self._warm_up(size) for size in self.sizes}
        rounds = _rounds(self.plan, max(call_s[1]))
        self._expect([speed.block_s(s) for size in self.sizes for s in call_s[size]], rounds, call_s)
        log_ps, flips = self._answers()
        blocks = self._blocks(rounds)
        tried = self._tried(call_s)
        offline = self._offline(rounds, tried)
        turns = self._turns(rounds)
        rate = self.plan.rate or 0.5 / max(_mean_s(own[1]) for own in blocks)
        served = self._served(rate)
        asked = self._asked()
        return [
            Measured(subject, log_ps[i], flips[i], blocks[i], tried[i], offline[i], turns[i], served[i], rate, asked[i])
            for i, subject in enumerate(self.subjects)
        ]

    def _stream(self, index: int, size: int) -> Stream:
        if size not in self.batches:
            self.batches[size] = speed.batches(self.data.inputs, size)
        if (index, size) not in self.streams:
            subject = self.subjects[index]
            self.streams[index, size] = Stream(subject.timed or subject, self.batches[size])
        return self.streams[index, size]

    def _warm_up(self, size: int) -> list[float]:
        """Seconds of one call of each subject."""
        return [speed.warm_up(self._stream(index, size)) for index in range(len(self.subjects))]

    def _expect(
        self, blocks_s: Sequence[float], rounds: int, call_s: Mapping[int, Sequence[float]] | None = None
    ) -> None:
        """Works out how long all of it takes; `blocks_s` has the seconds of a block of each model and batch size."""
        answers_s = 0.0
        if call_s is not None:
            answers_s = sum(call_s[self.plan.batch]) * math.ceil(len(self.data.inputs) / self.plan.batch)
        further_s = _further_s(len(self.subjects), self.plan, rounds)
        self.course.total = answers_s + rounds * sum(blocks_s) + further_s
        check_seconds(self.course.total)

    def _answers(self) -> tuple[list[LogP], list[LabelFlips]]:
        log_ps, flips = [], []
        for subject in self.subjects:
            self.course.now(f"asking {subject.place} for {len(self.data.inputs)} answers")
            log_ps.append(log_probabilities(subject, self.data.inputs, self.plan.max_batch))
            flips.append(label_flips(subject, self.data.inputs, self.plan.batch))
        return log_ps, flips

    def _tried(self, call_s: Mapping[int, Sequence[float]]) -> list[dict[int, float]]:
        """Rows per second of each subject at each batch size, from a short run of each."""
        tried = [{size: size / call_s[size][index] for size in self.sizes} for index in range(len(self.subjects))]
        if "offline" in self.plan.scenarios:
            for size in _tryable(self.plan):
                self.course.now(f"trying batches of {size}", len(self.subjects) * speed.WARM_UP_S)
                for index, own in enumerate(tried):
                    largest = max(own)
                    if size < largest or largest / own[largest] < LONGEST_TRIED_S:
                        own[size] = size / speed.warm_up(self._stream(index, size))
            self._forget({max(own, key=own.__getitem__) for own in tried} | set(self.sizes))
        return tried

    def _forget(self, needed: set[int]) -> None:
        """The batches of other sizes, each of which is a copy of all inputs."""
        self.batches = {size: batches for size, batches in self.batches.items() if size in needed}
        self.streams = {key: stream for key, stream in self.streams.items() if key[1] in needed}

    def _blocks(self, rounds: int) -> list[dict[int, list[Block]]]:
        """The blocks of single rows and of the batch that was asked for."""
        blocks: list[dict[int, list[Block]]] = [{size: [] for size in self.sizes} for _ in self.subjects]
        for size in self.sizes:
            doing = f"timing batches of {size}" if size > 1 else "timing single rows"
            for index, block in self._timed([size] * len(self.subjects), rounds, doing):
                blocks[index][size].append(block)
        return blocks

    def _offline(self, rounds: int, tried: Sequence[Mapping[int, float]]) -> list[list[Block]]:
        """The blocks of each subject's best batch size, side by side."""
        blocks: list[list[Block]] = [[] for _ in self.subjects]
        if "offline" in self.plan.scenarios:
            sizes = [max(own, key=own.__getitem__) for own in tried]
            for index, block in self._timed(sizes, rounds, f"timing batches of {', '.join(map(str, sizes))}"):
                blocks[index].append(block)
        return blocks

    def _timed(self, sizes: Sequence[int], rounds: int, doing: str) -> Iterator[tuple[int, Block]]:
        streams = [self._stream(index, size) for index, size in enumerate(sizes)]
        for index, block in speed.timed_blocks(streams, rounds, self.order, self.meter):
            self.course.now(doing, speed.BLOCK_S)
            yield index, block

    def _turns(self, rounds: int) -> list[list[Seconds]]:
        turns: list[list[Seconds]] = [[] for _ in self.subjects]
        if "alternating" in self.plan.scenarios:
            streams = [self._stream(index, 1) for index in range(len(self.subjects))]
            for kept in speed.turns(streams, rounds, self.order):
                self.course.now("timing turns", speed.BLOCK_S)
                for own, latencies_s in zip(turns, kept, strict=True):
                    own.append(latencies_s)
        return turns

    def _served(self, rate: float) -> list[list[Served]]:
        """The same arrivals for each subject, block by block, in random order."""
        served: list[list[Served]] = [[] for _ in self.subjects]
        if "server" not in self.plan.scenarios or not all(subject.is_here for subject in self.subjects):
            return served  # arrivals at a server are through_http's
        blocks = min(SERVER_BLOCKS, self.plan.blocks)
        needed_s = FEWEST["p99"] / (1 - speed.DISCARDED) / blocks / rate
        seconds = min(SERVER_MOST_S, max(SERVER_S, 1.2 * needed_s), MOST_ARRIVALS / rate)
        for _ in range(blocks):
            arrivals_s = poisson(rate, seconds, self.order)
            for index in self.order.permutation(len(self.subjects)):
                done = serve(self.subjects[index], self.data.inputs, arrivals_s, self.plan.max_batch)
                served[index].append(done)
                self.course.now(f"{rate:.0f} requests per second arrive", SERVER_S)
        return served

    def _asked(self) -> list[Asked] | list[None]:
        if "http" not in self.plan.scenarios:
            return [None] * len(self.subjects)
        return through_http.through_http(self.remotes, self.data, self.plan, self.course, self.order)


def _remotes(subjects: Sequence[Subject]) -> list[RemoteModel]:
    """Where each of them is asked through HTTP. Raises InputError where one is not served."""
    remotes = [subject.remote for subject in subjects if subject.remote is not None]
    if len(remotes) < len(subjects):
        raise InputError("scenarios: got http, but the models are compared without a server that could be asked")
    return remotes


def _mean_s(blocks: Sequence[Block]) -> float:
    return float(np.concatenate([block.kept_s for block in blocks]).mean())
