"""The options of the trainer's command line, verb by verb. It knows their names and kinds, not what they do."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import NoReturn

import platformdirs

from trainer.recipe import shipped

EXIT_ERROR = 2
DESCRIPTION = "Trains ensembles, distils them into small models, and publishes both."


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as everything here does."""

    def error(self, message: str) -> NoReturn:
        """Prints the line and leaves."""
        self.exit(EXIT_ERROR, f"trainer: {message}; --help says more\n")


def make_parser() -> argparse.ArgumentParser:
    """The parser, with the environment's defaults read now."""
    parser = Parser(prog="python -m trainer", description=DESCRIPTION)
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB", dest="verb")
    verb = verbs.add_parser(
        "train",
        help="train an ensemble, distil it, publish both (the default)",
        description="Trains an ensemble, distils it into a student, trains the baseline; publishes them and a member.",
    )
    _add_options(verb)
    text = "train students over a grid of settings and compare them on validation"
    verb = verbs.add_parser("sweep", help=text, description=f"{text[0].upper()}{text[1:]}; publishes nothing.")
    _add_sweep_options(verb)
    text = "train a family of students and publish the smallest that will do"
    verb = verbs.add_parser("smallest", help=text, description=f"{text[0].upper()}{text[1:]}, by validation.")
    _add_smallest_options(verb)
    text = "publish a student anew, with the rule by which it asks its ensemble"
    verb = verbs.add_parser("cascade", help=text, description=f"{text[0].upper()}{text[1:]}, chosen on validation.")
    _add_cascade_options(verb)
    text = "make a figure of the paper anew, row by row, beside the paper's"
    verb = verbs.add_parser("reproduce", help=text, description=f"{text[0].upper()}{text[1:]}. A finished row stays.")
    _add_reproduce_options(verb)
    return parser


def _add_sweep_options(verb: argparse.ArgumentParser) -> None:
    _add_recipe(verb)
    add = verb.add_argument
    add("--temperature", type=_floats, metavar="T,T", help="temperatures (default: the recipe's)")
    add("--hidden", type=_widths, metavar="W,WxW", help="hidden layers, such as 16,32x32 (default: the recipe's)")
    add("--hard-weight", type=_floats, metavar="W,W", help="weights of the labels (default: the recipe's)")
    add("--seeds", type=_seed, metavar="N", help="seeds of every point (default: the recipe's)")
    _add_places(verb)
    _add_run(verb)


def _add_smallest_options(verb: argparse.ArgumentParser) -> None:
    _add_options(verb)
    add = verb.add_argument
    text = "points of accuracy that it may be below its teacher (default: 0.1, where no other limit is given)"
    add("--tolerance", type=_positive, metavar="P", help=text)
    add("--parameters", type=_positive, metavar="N", help="at most so many parameters")
    add("--bytes", type=_positive, metavar="N", help="at most so many bytes of the graph")
    add("--p99-ms", type=_positive, metavar="MS", help="at most so many ms for 99 %% of single rows, one CPU thread")
    text = "the family, such as 8,16,32x32 (default: an eighth, a quarter, a half and the whole of the recipe's)"
    add("--hidden", type=_widths, metavar="W,WxW", help=text)


def _add_cascade_options(verb: argparse.ArgumentParser) -> None:
    add = verb.add_argument
    add("model", metavar="MODEL", help="a published student: its name (the newest version), or NAME/VERSION")
    text = "points of validation accuracy that the cascade may be below the ensemble; of the rest it defers least"
    add("--max-loss", type=_points, required=True, metavar="P", help=text)
    text = "another published model that it is to ask, likewise (default: the one that taught it)"
    add("--ask", metavar="MODEL", help=text)
    _add_models_dir(verb)
    _add_data_dir(verb)
    text = "folder that the paths in the student's recipe are relative to (default: this one)"
    add("--recipe-dir", type=Path, default=Path(), metavar="R", help=text)


def _add_reproduce_options(verb: argparse.ArgumentParser) -> None:
    add = verb.add_argument
    text = "which of the paper's sections: mnist is 3, specialists is 5 on EMNIST, speech is 4 and 6 on spoken words"
    add("experiment", choices=("mnist", "specialists", "speech"), help=text)
    add("--rows", default="", metavar="A,B", help="only these rows, and what they need (default: all)")
    add("--out", type=Path, default=Path("docs/results"), metavar="O", help="where results go (default: docs/results)")
    add("--quick", action="store_true", help="tiny networks on a few hundred examples: only that it runs")
    _add_places(verb)


def _add_places(verb: argparse.ArgumentParser) -> None:
    """Where things lie and what computes, the same for every verb."""
    _add_data_dir(verb)
    runs = platformdirs.user_cache_path("stillroom") / "runs"
    add = verb.add_argument
    text = f"checkpoints, soft targets, tables and plots (default: {runs})".replace("%", "%%")
    add("--runs-dir", type=Path, default=runs, metavar="R", help=text)
    text = "auto takes CUDA where PyTorch finds it (default: auto)"
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help=text)
    text = "where networks train and teachers answer: here, processes[:N], ray, ray://host:port (default: here)"
    add("--on", default="here", metavar="WHERE", help=text)


def _add_data_dir(verb: argparse.ArgumentParser) -> None:
    data = os.environ.get("STILLROOM_DATA")
    text = "folder that holds mnist/ or emnist/ (default: STILLROOM_DATA; without either, MNIST is downloaded)"
    verb.add_argument("--data-dir", type=Path, default=Path(data) if data else None, metavar="D", help=text)


def _add_models_dir(verb: argparse.ArgumentParser) -> None:
    text = "model repository to publish into (default: models)"
    verb.add_argument("--models-dir", type=Path, default=Path("models"), metavar="M", help=text)


def _add_options(verb: argparse.ArgumentParser) -> None:
    _add_recipe(verb)
    _add_models_dir(verb)
    _add_places(verb)
    _add_run(verb)


def _add_recipe(verb: argparse.ArgumentParser) -> None:
    text = f"{', '.join(shipped())}, or the path of a .toml file (default: digits)"
    verb.add_argument("recipe", nargs="?", default="digits", metavar="RECIPE", help=text)


def _add_run(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--seed", type=_seed, default=0, metavar="S", help="seed of the whole run (default: 0)")
    verb.add_argument("--resume", action="store_true", help="go on from the last checkpoint of the same run")


def _positive(text: str) -> float:
    (number,) = _floats(text) if "," not in text else [-1.0]
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return number


def _points(text: str) -> float:
    number = _positive(text)
    if number > 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of points, 0 to 100")
    return number


def _floats(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not numbers with commas between them, such as 1,2.5,20"
        ) from error


def _widths(text: str) -> list[tuple[int, ...]]:
    if not re.fullmatch(r"[0-9]+(x[0-9]+)*(,[0-9]+(x[0-9]+)*)*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not hidden layers with commas between them, such as 16,32x32")
    return [tuple(map(int, part.split("x"))) for part in text.split(",")]


def _seed(text: str) -> int:
    if not re.fullmatch("[0-9]{1,10}", text) or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number between 0 and {2**31 - 1}")
    return int(text)
