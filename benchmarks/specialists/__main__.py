"""What specialists and their combination cost, as ratios within one run, on drawn examples of EMNIST's shape.

    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.specialists            # as the trainer sets it; minutes on 2 cores
    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.specialists --rows 100000 --specialists 16
    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.specialists --quick    # tiny networks: only that it runs

First an epoch of each training (training.py): the generalist, its specialists, and a mixture of experts of the same
sizes that is trained jointly. Then the combination of their answers, and of drawn ones that disagree (combining.py).
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.specialists import answers, combining, training
from benchmarks.specialists.scale import QUICK, Scale
from service.machine import processors


def main(arguments: Sequence[str]) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.specialists", description=str(__doc__).partition("\n")[0]
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiny networks, few steps, but for what is given: only that it runs"
    )
    whole = Scale()
    for name, about in (
        ("rows", "training examples"),
        ("specialists", "groups, which overlap, and so experts of the mixture too"),
        ("size", "classes of a group"),
        ("top", "most probable classes of the generalist that choose who is asked"),
        ("repetitions", "epochs of each training"),
        ("images", "images of each case that are combined"),
        ("bound", "steps that gradient descent may take"),
    ):
        text = f"{about} (default: {getattr(whole, name)}, with --quick {getattr(QUICK, name)})"
        parser.add_argument(f"--{name}", type=int, default=argparse.SUPPRESS, help=text)
    given = vars(parser.parse_args(arguments))
    scale = (QUICK if given.pop("quick") else whole)._replace(**given)
    with tempfile.TemporaryDirectory() as folder:
        for line in measure(scale, Path(folder)):
            print(line, flush=True)  # noqa: T201 - it is a program


def measure(scale: Scale, folder: Path) -> Iterator[str]:
    """All tables, line by line as they become known, in Markdown."""
    yield f"{processors()}; Python {platform.python_version()}, PyTorch {torch.__version__}"
    widths = "-".join(map(str, (784, *scale.hidden, scale.classes)))
    yield f"{widths}, {scale.rows:,} examples, {scale.specialists} overlapping groups of {scale.size} classes\n"
    trained = training.train_all(scale, folder)
    yield from training.table(trained, training.epochs(trained, scale.repetitions))
    yield ""
    groups, split = trained.asked.groups, trained.workshop.split
    inputs = torch.from_numpy(split.test.inputs[: scale.images])
    cases = [answers.trained(groups, trained.asked.generalist, trained.specialists, inputs)]
    cases += [answers.drawn(groups, scale.classes, scale.images, apart, seed) for seed, apart in enumerate(scale.apart)]
    solved = [combining.solve(case, scale.classes, scale.top, scale.bound) for case in cases]
    yield from combining.accuracy_table(solved)
    yield ""
    yield from combining.time_table(solved, scale.unrolled, scale.blocks)


if __name__ == "__main__":
    main(sys.argv[1:])
