"""The command line of the trainer: `python -m trainer train RECIPE` and `python -m trainer reproduce mnist`."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import platformdirs
from rich.console import Console

from service.errors import StillroomError
from trainer.display import Display
from trainer.errors import TrainerError
from trainer.recipe import read_recipe, shipped

EXIT_ERROR, EXIT_INTERRUPTED = 2, 130


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as everything here does."""

    def error(self, message: str) -> NoReturn:
        """Prints the line and leaves."""
        self.exit(EXIT_ERROR, f"trainer: {message}; --help says more\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit status: 0, 2 for an error that it has printed, 130 for Ctrl-C."""
    parser = make_parser()
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] not in {"train", "reproduce", "-h", "--help"}:
        given.insert(0, "train")  # without a verb it trains
    options = parser.parse_args(given)
    try:
        return int(options.run(options, given))
    except (TrainerError, StillroomError) as error:
        print(f"trainer: {error}", file=sys.stderr)  # noqa: T201 - the command line's one way to speak
        return EXIT_ERROR
    except KeyboardInterrupt:
        print(f"\ntrainer: interrupted; go on with: {_resume_command(given)}", file=sys.stderr)  # noqa: T201
        return EXIT_INTERRUPTED


def make_parser() -> argparse.ArgumentParser:
    """The parser, with the environment's defaults read now."""
    parser = Parser(prog="python -m trainer", description=__doc__)
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    verb = verbs.add_parser(
        "train",
        help="train an ensemble, distil it, publish both (the default)",
        description="Trains an ensemble, distils it into a student, trains the baseline, and publishes all three.",
    )
    _add_options(verb)
    verb.set_defaults(run=train)
    text = "make a figure of the paper anew, row by row, beside the paper's"
    verb = verbs.add_parser("reproduce", help=text, description=f"{text[0].upper()}{text[1:]}. A finished row stays.")
    _add_reproduce_options(verb)
    verb.set_defaults(run=reproduce)
    return parser


def _add_reproduce_options(verb: argparse.ArgumentParser) -> None:
    add = verb.add_argument
    add("experiment", choices=("mnist",), help="which section of the paper: mnist is section 3")
    add("--rows", default="", metavar="A,B", help="only these rows, and what they need (default: all)")
    add("--out", type=Path, default=Path("docs/results"), metavar="O", help="where results go (default: docs/results)")
    add("--quick", action="store_true", help="tiny networks on a few hundred examples: only that it runs")
    _add_places(verb)


def _add_places(verb: argparse.ArgumentParser) -> None:
    """Where things lie and what computes, the same for every verb."""
    data = os.environ.get("STILLROOM_DATA")
    runs = platformdirs.user_cache_path("stillroom") / "runs"
    add = verb.add_argument
    text = "folder that holds mnist/ (default: STILLROOM_DATA; without either, MNIST is downloaded)"
    add("--data-dir", type=Path, default=Path(data) if data else None, metavar="D", help=text)
    text = f"checkpoints, soft targets, tables and plots (default: {runs})".replace("%", "%%")
    add("--runs-dir", type=Path, default=runs, metavar="R", help=text)
    text = "auto takes CUDA where PyTorch finds it (default: auto)"
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help=text)


def _add_options(verb: argparse.ArgumentParser) -> None:
    add = verb.add_argument
    recipes = f"{', '.join(shipped())}, or the path of a .toml file"
    add("recipe", nargs="?", default="digits", metavar="RECIPE", help=f"{recipes} (default: digits)")
    text = "model repository to publish into (default: models)"
    add("--models-dir", type=Path, default=Path("models"), metavar="M", help=text)
    _add_places(verb)
    add("--seed", type=_seed, default=0, metavar="S", help="seed of the whole run (default: 0)")
    add("--resume", action="store_true", help="go on from the last checkpoint of the same run")


def reproduce(options: argparse.Namespace, _given: Sequence[str]) -> int:
    """`python -m trainer reproduce`."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as below
    from trainer.pipeline import pick_device
    from trainer.reproduce.command import Asked, reproduce_mnist

    asked = Asked(
        data_dir=options.data_dir,
        runs_dir=options.runs_dir,
        out=options.out,
        device=pick_device(options.device),
        rows=[name for name in options.rows.split(",") if name],
        quick=options.quick,
        command=f"python -m trainer reproduce {options.experiment}{' --quick' if options.quick else ''}",
    )
    reproduce_mnist(asked, Display(Console()))
    return 0


def train(options: argparse.Namespace, _given: Sequence[str]) -> int:
    """`python -m trainer train`."""
    recipe, folder = read_recipe(options.recipe)  # before PyTorch is imported: a typing error is told at once
    # OpenMP's threads spin at every barrier by default: where anything else wants a core, a step then takes 5 to 10
    # times as long. It reads this when PyTorch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.path.insert(0, str(folder.resolve()))  # `module:factory` is found beside the recipe
    from trainer import pipeline

    chosen = pipeline.Options(
        data_dir=options.data_dir,
        models_dir=options.models_dir,
        runs_dir=options.runs_dir,
        device=options.device,
        seed=options.seed,
        resume=options.resume,
    )
    manifests = pipeline.train(recipe, folder, chosen, Display(Console()))
    names = ", ".join(f"{manifest.name}/{manifest.version}" for manifest in manifests)
    print(f"published in {options.models_dir}: {names}")  # noqa: T201
    return 0


def _seed(text: str) -> int:
    if not re.fullmatch("[0-9]{1,10}", text) or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number between 0 and {2**31 - 1}")
    return int(text)


def _resume_command(given: Sequence[str]) -> str:
    rest = [argument for argument in given if argument != "--resume"]
    return shlex.join([sys.executable, "-m", "trainer", *rest, "--resume"])


if __name__ == "__main__":
    sys.exit(main())
