"""How fast training is, as ratios within one run, printed as one table. It knows what is compared, not how it is shown.

    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.training            # as the trainer sets it; a few minutes on 2 cores
    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.training --rows 60000    # MNIST's epochs: half an hour
    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.training --quick    # tiny networks, one repetition: only that it runs

The data are random, of MNIST's shape; nothing is downloaded. In every repetition ours and theirs run one after the
other, so that a noisy moment meets both; a ratio is the median over repetitions, in brackets least and greatest.
An epoch of ours is a whole call of `fit`: optimiser, validation (256 examples) and checkpoint included, cached soft
targets given. Making them costs the teachers' answers to each example once, and is not counted.
Both sides compute in float32, or where a row says so in bfloat16 (autocast): only ours, or both.
A step is the time from one call of the loss to the next.
The bare products of a step are its matrix products alone, torch.bmm into tensors that exist already (forward, gradients
of the weights, gradients of the inputs but the first layer's), and the same fused Adam on the same parameters.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks import products, textbook, textbrewer_loop
from service.machine import processor, usable_cpus
from trainer.fit import Batch, Examples, fit
from trainer.limits import cpu_threads
from trainer.losses import cross_entropy, soft_cross_entropy
from trainer.networks import Normalise, Stack
from trainer.recipe import Training

Batches = DataLoader[tuple[Tensor, ...]]
Epoch = Callable[[nn.Module, Sequence[nn.Module], Batches], object]
"""Student, teachers and batches of images and labels: trains the student for an epoch."""
Precision = Literal["float32", "bfloat16"]


class Scale(NamedTuple):
    """How large the compared things are."""

    rows: int = 12_800
    repetitions: int = 5
    steps: int = 12
    members: int = 10
    wide: tuple[int, ...] = (784, 1200, 1200, 10)
    student: tuple[int, ...] = (784, 800, 800, 10)
    digits: tuple[int, ...] = (64, 256, 256, 10)


QUICK = Scale(256, 1, 2, 2, (784, 16, 16, 10), (784, 8, 8, 10), (64, 8, 8, 10))


class Row(NamedTuple):
    """A line of the table: what is compared, seconds of ours and of theirs per repetition, what is wanted of theirs by
    ours; or why it was not measured."""

    title: str
    wanted: str
    ours_s: Sequence[float] = ()
    theirs_s: Sequence[float] = ()
    skipped: str = ""

    def cells(self) -> list[str]:
        """The row as text."""
        if self.skipped:
            return [self.title, "", "", self.skipped, self.wanted]
        ratios = [theirs / ours for ours, theirs in zip(self.ours_s, self.theirs_s, strict=True)]
        ratio = f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
        return [self.title, *(_milliseconds(each) for each in (self.ours_s, self.theirs_s)), ratio, self.wanted]


def _milliseconds(times_s: Sequence[float]) -> str:
    return f"{statistics.median(times_s) * 1e3:.3g} ms"


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    lines = [["benchmark", "ours", "theirs", "theirs / ours", "wanted"], ["---", "---:", "---:", "---:", "---:"]]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [*lines, *(row.cells() for row in rows)])


class _EnoughError(Exception):
    """Ends a training whose steps have been timed."""


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _alternating(repetitions: int, *works: Callable[[], float]) -> list[list[float]]:
    """Seconds of each, [works, repetitions]; a first round that nobody counts warms all of them up."""
    return [list(times) for times in zip(*([work() for work in works] for _ in range(repetitions + 1)), strict=True)]


def _measured(title: str, wanted: str, repetitions: int, ours: Callable[[], float], theirs: Callable[[], float]) -> Row:
    ours_s, theirs_s = _alternating(repetitions, ours, theirs)
    return Row(title, wanted, ours_s[1:], theirs_s[1:])


def random_examples(rows: int, features: int, device: str = "cpu") -> Examples:
    """Noise in [0, 1) with labels, and soft targets of nobody."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(rows, features, generator=generator)
    labels = torch.randint(10, (rows,), generator=generator)
    log_teacher = torch.randn(rows, 10, generator=generator).log_softmax(dim=-1)
    return Examples(inputs.to(device), labels.to(device), log_teacher.to(device))


def make_stack(sizes: Sequence[int], seeds: Sequence[int], device: str = "cpu") -> Stack:
    """Networks whose inputs are normalised already, without dropout."""
    return Stack(sizes, seeds, Normalise(torch.tensor(0.0), torch.tensor(1.0))).to(device)


def _settings(sizes: Sequence[int], batch_size: int, precision: Precision = "float32") -> Training:
    return Training(hidden=tuple(sizes[1:-1]), epochs=1, batch_size=batch_size, precision=precision)


def distil(logits_MBK: Tensor, batch: Batch) -> Tensor:
    """The loss of textbook.py, but for a constant: [M]."""
    if batch.log_teacher is None:
        raise TypeError("a student learns from soft targets; these examples have none")
    soft_M = soft_cross_entropy(logits_MBK, batch.log_teacher, textbook.TEMPERATURE)
    return (1.0 - textbook.HARD_WEIGHT) * soft_M + textbook.HARD_WEIGHT * cross_entropy(logits_MBK, batch.labels)


def our_epoch_s(scale: Scale, train: Examples, batch_size: int, precision: Precision = "float32") -> float:
    """One epoch of distillation from cached soft targets."""
    validation = Examples(train.inputs[:256], train.labels[:256])
    student = make_stack(scale.student, [0])
    settings = _settings(scale.student, batch_size, precision)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint"
        return _seconds(lambda: fit(student, train, validation, distil, settings, [0], path, lambda _: None))


def _their_epoch_s(
    scale: Scale, epoch: Epoch, teachers: Sequence[nn.Module], batches: Batches, precision: Precision = "float32"
) -> float:
    student = textbook.network(scale.student)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        return _seconds(lambda: epoch(student, teachers, batches))


def step_s(sizes: Sequence[int], members: int, batch_size: int, steps: int, device: str = "cpu") -> float:
    """The median step of our loop with so many members at once, labels only."""
    seeds = list(range(members))
    train = random_examples(batch_size * (steps + 3), sizes[0], device)
    calls: list[float] = []

    def loss(logits_MBK: Tensor, batch: Batch) -> Tensor:
        if device == "cuda":
            torch.cuda.synchronize()
        calls.append(time.perf_counter())
        if len(calls) == steps + 3:
            raise _EnoughError
        return cross_entropy(logits_MBK, batch.labels)

    stack, settings = make_stack(sizes, seeds, device), _settings(sizes, batch_size)
    with suppress(_EnoughError):
        fit(stack, train, train, loss, settings, seeds, Path("never-written"), lambda _: None)
    return statistics.median(after - before for before, after in itertools.pairwise(calls[2:]))


def live_teachers(scale: Scale, batch_size: int = 256) -> Iterator[Row]:
    """Our epoch against loops in which the teachers answer anew for every batch."""
    train = random_examples(scale.rows, scale.student[0])
    batches = textbook.loader(train.inputs.view(-1, 1, 28, 28), train.labels, batch_size)
    tutorial, version = "the PyTorch tutorial's loop", textbrewer_loop.installed()
    others: list[tuple[str, Epoch, Precision, Precision]] = [
        (tutorial, textbook.epoch, "float32", "float32"),
        (f"{tutorial}, ours in bfloat16", textbook.epoch, "bfloat16", "float32"),
        (f"{tutorial}, both in bfloat16", textbook.epoch, "bfloat16", "bfloat16"),
    ]
    if version is not None:
        others.append((f"TextBrewer {version}", textbrewer_loop.epoch, "float32", "float32"))
    for name, epoch, ours, theirs in others:
        for count, wanted in ((1, ">= 1.7"), (scale.members, ">= 8")):
            teachers = [textbook.network(scale.wide) for _ in range(count)]
            yield _measured(
                f"an epoch of distillation, {count} teacher{'s' * (count > 1)}, against {name}",
                wanted if ours == theirs == "float32" else "",
                scale.repetitions,
                partial(our_epoch_s, scale, train, batch_size, ours),
                partial(_their_epoch_s, scale, epoch, teachers, batches, theirs),
            )
    if version is None:
        yield Row("an epoch of distillation, against TextBrewer", ">= 1.7, >= 8", skipped="textbrewer is not installed")


def bounds(scale: Scale, batch_size: int = 256) -> Iterator[Row]:
    """What no loop can be beyond: the bare products and fused Adam of a step of the student, without the teachers'
    answers and with them."""
    for count in (1, scale.members):
        yield _measured(
            f"bare products and fused Adam of a step, without against with the answers of {count} teacher"
            + "s" * (count > 1),
            "",
            scale.repetitions,
            partial(_bare_s, scale, batch_size, 0),
            partial(_bare_s, scale, batch_size, count),
        )


def _bare_s(scale: Scale, batch_size: int, teachers: int) -> float:
    step = products.step_s(scale.student, batch_size, scale.steps * 5)
    return step + (teachers * products.answers_s(scale.wide, batch_size, scale.steps * 5) if teachers else 0.0)


def together(scale: Scale) -> Iterator[Row]:
    """Members at once (ours) against one after another (theirs): a step of all of them."""
    wide = f"a step of {scale.members} {'-'.join(map(str, scale.wide))} at once against one by one"
    digits = f"a step of {scale.members} {'-'.join(map(str, scale.digits))} at once against one by one, one thread"
    with cpu_threads(1):
        yield _pair(scale, digits, ">= 3", scale.digits, 64, scale.steps * 5)
        yield _measured(
            f"bare products and fused Adam of those {scale.members} at once, against our steps one by one, one thread",
            "",
            scale.repetitions,
            lambda: products.step_s(scale.digits, 64, scale.steps * 5, scale.members),
            partial(_one_by_one_s, scale, scale.digits, 64, scale.steps * 5, "cpu"),
        )
    # Above stages.SMALL the trainer goes one by one on the CPU: a ratio near 1 or below it says that this is right.
    yield _pair(scale, f"{wide}, CPU (the trainer goes one by one)", "<= 1.05", scale.wide, 256, scale.steps)
    if torch.cuda.is_available():
        yield _pair(scale, f"{wide}, CUDA", ">= 5", scale.wide, 256, scale.steps * 5, "cuda")
    else:
        yield Row(f"{wide}, CUDA", ">= 5", skipped="no GPU")


def _pair(
    scale: Scale, title: str, wanted: str, sizes: Sequence[int], batch_size: int, steps: int, device: str = "cpu"
) -> Row:
    at_once = partial(step_s, sizes, scale.members, batch_size, steps, device)
    one_by_one = partial(_one_by_one_s, scale, sizes, batch_size, steps, device)
    return _measured(title, wanted, scale.repetitions, at_once, one_by_one)


def _one_by_one_s(scale: Scale, sizes: Sequence[int], batch_size: int, steps: int, device: str) -> float:
    return sum(step_s(sizes, 1, batch_size, steps, device) for _ in range(scale.members))


def overhead(scale: Scale, batch_size: int = 512) -> Row:
    """Our step (theirs / ours below 1 / 1.25: an overhead above 25 %) over its bare products."""
    sizes = scale.wide
    return _measured(
        f"a step of {'-'.join(map(str, sizes))}, batch {batch_size}, against its bare products and fused Adam",
        ">= 0.80",
        scale.repetitions,
        lambda: step_s(sizes, 1, batch_size, scale.steps),
        lambda: products.step_s(sizes, batch_size, scale.steps),
    )


def measure(scale: Scale) -> str:
    """The whole table, below a line that names what it was measured on."""
    rows = [*live_teachers(scale), *bounds(scale), *together(scale), overhead(scale)]
    policy = os.environ.get("OMP_WAIT_POLICY", "not set")
    hardware = f"{processor()}, {torch.get_num_threads()} threads, OMP_WAIT_POLICY {policy}"
    versions = f"Python {platform.python_version()}, PyTorch {torch.__version__}"
    return f"{hardware}; {versions}; {scale.rows} rows, {scale.repetitions} repetitions\n\n{table(rows)}\n"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="How fast training is, as ratios within one run.")
    parser.add_argument("--rows", type=int, default=Scale().rows, help="examples of an epoch (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="tiny networks, one repetition: only that it runs")
    given = parser.parse_args()
    with cpu_threads(usable_cpus()):
        sys.stdout.write(measure(QUICK if given.quick else Scale(rows=given.rows)))


if __name__ == "__main__":
    main()
