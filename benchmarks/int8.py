"""How fast an int8 student is, as ratios to its float32 graph within one run, printed as one table.

    python -m benchmarks.int8            # half a minute on one core
    python -m benchmarks.int8 --quick    # a tiny network, two rounds of blocks: only that it runs

784-800-800-10 with random weights on one thread that does not spin; inputs are random pixels of which four in five are
0. The graphs take turns in blocks of 200 ms in random order, as in the service's comparison, so that a drift of the
machine meets both; the ratio is of mean times, its 95 % interval a bootstrap over blocks.

Why trainer/quantize.py does what it does: ratios of other forms in three shorter runs of the same kind (6 blocks of
100 ms each, AMD EPYC with AVX512-VNNI), good to 0.1.

    batch                                                       1     32    64
    static (QDQ), one scale a tensor, products left exact       2.4   3.5   3.5   ours
    the same, but products rounded to 8 bits again              2.4   3.4   3.5   probabilities 2.7 times as far off
    static, one scale a channel                                 1.8   3.2   3.3   its kernel takes a quarter longer
    dynamic, one scale a tensor                                 2.3   3.4   3.4   ranges are those of the whole batch
    dynamic, one scale a channel                                2.0   3.1   3.3
    dynamic, unsigned weights                                   1.6   1.4   1.4

On 10,000 validation images of MNIST ours and the float32 graph agree on 99.95 % of the labels, dynamic ones on 99.98 %
and 99.97 %. But where one row in 32 is 100 times as bright, the others' probabilities move by up to 0.12 with a
dynamic graph, and with ours they do not move. Small convolutions are slower in int8 (0.65 times as fast).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from service.comparison import speed
from service.comparison.statistics import Seconds, mean, speed_up
from service.comparison.subject import Answering
from service.machine import processors
from service.model import Prediction
from service.session import open_session
from trainer.ensemble import Single
from trainer.export import to_onnx
from trainer.networks import Normalise, Stack
from trainer.quantize import int8

SIZES = (784, 800, 800, 10)
QUICK_SIZES = (784, 16, 10)
ROWS = (1, 32, 64)
ROUNDS = 20
SEED = 0


class Graph:
    """A session that answers as a served model does; it has no manifest, of which timing takes no notice."""

    def __init__(self, graph: bytes) -> None:
        self._session = open_session(graph, device="cpu", threads=1)

    def run(self, inputs: NDArray[np.float32]) -> Prediction:
        """Both outputs for float32 [B, ...]."""
        return Prediction(*self._session.run(["probabilities", "logits"], {"input": inputs}))


def main(arguments: Sequence[str]) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.int8", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tiny network and two rounds: only that it runs")
    quick = parser.parse_args(arguments).quick
    rng = np.random.default_rng(SEED)
    lit = rng.random((640, 28, 28)) < 0.2
    inputs = np.where(lit, rng.integers(0, 256, lit.shape), 0).astype(np.float32)
    for line in table(QUICK_SIZES if quick else SIZES, inputs, 2 if quick else ROUNDS, rng):
        print(line, flush=True)  # noqa: T201 - it is a program


def table(sizes: Sequence[int], inputs: NDArray[np.float32], rounds: int, rng: np.random.Generator) -> Iterator[str]:
    """The table's lines as they become known, in Markdown."""
    stack = Stack(sizes, [SEED], Normalise(torch.tensor(0.0), torch.tensor(255.0)))
    full = to_onnx(Single(stack.member(0)), inputs.shape[1:])
    small = int8(full, inputs)
    name = "-".join(map(str, sizes))
    yield f"{name}, one thread, {rounds} blocks of 200 ms each; {processors()}"
    yield f"float32 {len(full):,} bytes, int8 {len(small):,} bytes: {len(full) / len(small):.2f} times smaller"
    yield ""
    yield "| batch | float32, ms | int8, ms | int8 is faster by |"
    yield "| ---: | ---: | ---: | ---: |"
    for rows in ROWS:
        blocks = timed([Graph(full), Graph(small)], speed.batches(inputs, rows), rounds, rng)
        ratio = speed_up(blocks[1], blocks[0], SEED)
        times = " | ".join(f"{1000 * mean(block):.4f}" for block in blocks)
        yield f"| {rows} | {times} | {ratio.value:.2f} [{ratio.interval.low:.2f}, {ratio.interval.high:.2f}] |"


def timed(
    graphs: Sequence[Answering], batches: Sequence[NDArray[np.float32]], rounds: int, rng: np.random.Generator
) -> list[list[Seconds]]:
    """Each graph's blocks of seconds a call, the graphs warmed up and in random order."""
    streams = [speed.Stream(graph, batches) for graph in graphs]
    for stream in streams:
        speed.warm_up(stream)
    blocks: list[list[Seconds]] = [[] for _ in graphs]
    for index, block in speed.timed_blocks(streams, rounds, rng):
        blocks[index].append(block.kept_s)
    return blocks


if __name__ == "__main__":
    main(sys.argv[1:])
