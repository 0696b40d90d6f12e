"""The command line of the trainer: `python -m trainer` and a verb: train, sweep, smallest, cascade, reproduce."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from service.errors import StillroomError
from service.manifest import Manifest
from trainer.arguments import EXIT_ERROR, make_parser
from trainer.display import Display
from trainer.errors import TrainerError
from trainer.recipe import Recipe, read_recipe

if TYPE_CHECKING:
    from trainer.lesson import Options  # imports PyTorch

EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit status: 0, 2 for an error that it has printed, 130 for Ctrl-C."""
    parser = make_parser()
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] not in {*VERBS, "-h", "--help"}:
        given.insert(0, "train")  # without a verb it trains
    options = parser.parse_args(given)
    try:
        return VERBS[options.verb](options)
    except (TrainerError, StillroomError) as error:
        print(f"trainer: {error}", file=sys.stderr)  # noqa: T201 - the command line's one way to speak
        return EXIT_ERROR
    except KeyboardInterrupt:
        print(f"\ntrainer: interrupted; go on with: {_resume_command(given)}", file=sys.stderr)  # noqa: T201
        return EXIT_INTERRUPTED


def reproduce_section(options: argparse.Namespace) -> int:
    """`python -m trainer reproduce`."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as below
    from trainer.lesson import pick_device
    from trainer.reproduce.command import Asked, reproduce
    from trainer.reproduce.mnist import MNIST
    from trainer.reproduce.specialists import SPECIALISTS
    from trainer.reproduce.speech import SPEECH

    asked = Asked(
        data_dir=options.data_dir,
        runs_dir=options.runs_dir,
        out=options.out,
        device=pick_device(options.device),
        rows=[name for name in options.rows.split(",") if name],
        quick=options.quick,
        on=options.on,
        command=f"python -m trainer reproduce {options.experiment}{' --quick' if options.quick else ''}",
    )
    experiments = {"mnist": MNIST, "specialists": SPECIALISTS, "speech": SPEECH}
    reproduce(experiments[options.experiment], asked, Display(Console()))
    return 0


def sweep(options: argparse.Namespace) -> int:
    """`python -m trainer sweep`."""
    recipe, folder = _recipe(options)
    from trainer.sweep import Grid, sweep

    student = recipe.student
    grid = Grid(
        hidden=options.hidden or [student.hidden],
        temperature=options.temperature or [student.temperature],
        hard_weight=options.hard_weight or [student.hard_weight],
        seeds=max(1, options.seeds or student.seeds),
    )
    sweep(recipe, folder, _options(options, Path()), grid, Display(Console()))
    return 0


def smallest(options: argparse.Namespace) -> int:
    """`python -m trainer smallest`."""
    recipe, folder = _recipe(options)
    from trainer.smallest import Limits, smallest

    limits = Limits(options.tolerance, options.parameters, options.bytes, options.p99_ms)
    if limits == Limits():
        limits = Limits(tolerance=0.1)
    parts = [tuple(max(1, width // part) for width in recipe.student.hidden) for part in (8, 4, 2, 1)]
    family = list(dict.fromkeys(options.hidden or parts))
    chosen = _options(options, options.models_dir)
    manifests = smallest(recipe, folder, chosen, family, limits, Display(Console()))
    _tell(options, manifests)
    return 0


def cascade(options: argparse.Namespace) -> int:
    """`python -m trainer cascade`."""
    from trainer.cascade import Asked, make_cascade

    places = (options.models_dir, options.data_dir, options.recipe_dir)
    _tell(options, [make_cascade(Asked(options.model, options.max_loss, *places, options.ask), Display(Console()))])
    return 0


def train(options: argparse.Namespace) -> int:
    """`python -m trainer train`."""
    recipe, folder = _recipe(options)
    from trainer import pipeline

    manifests = pipeline.train(recipe, folder, _options(options, options.models_dir), Display(Console()))
    _tell(options, manifests)
    return 0


def _tell(options: argparse.Namespace, manifests: Sequence[Manifest]) -> None:
    names = ", ".join(f"{manifest.name}/{manifest.version}" for manifest in manifests)
    print(f"published in {options.models_dir}: {names}")  # noqa: T201


def _recipe(options: argparse.Namespace) -> tuple[Recipe, Path]:
    """The recipe and its folder, and the process made ready for PyTorch."""
    recipe, folder = read_recipe(options.recipe)  # before PyTorch is imported: a typing error is told at once
    # OpenMP's threads spin at every barrier by default: where anything else wants a core, a step then takes 5 to 10
    # times as long. It reads this when PyTorch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.path.insert(0, str(folder.resolve()))  # `module:factory` is found beside the recipe
    return recipe, folder


def _options(options: argparse.Namespace, models_dir: Path) -> Options:
    from trainer.lesson import Options

    return Options(
        data_dir=options.data_dir,
        models_dir=models_dir,
        runs_dir=options.runs_dir,
        device=options.device,
        seed=options.seed,
        resume=options.resume,
        on=options.on,
    )


def _resume_command(given: Sequence[str]) -> str:
    rest = [argument for argument in given if argument != "--resume"]
    again = [] if given[0] in {"reproduce", "cascade"} else ["--resume"]  # one always goes on, one takes seconds
    return shlex.join([sys.executable, "-m", "trainer", *rest, *again])


VERBS = {"train": train, "sweep": sweep, "smallest": smallest, "cascade": cascade, "reproduce": reproduce_section}

if __name__ == "__main__":
    sys.exit(main())
