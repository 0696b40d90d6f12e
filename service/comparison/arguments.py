"""The arguments of `python -m service compare`. It knows their names and what they are for, and does nothing."""

from __future__ import annotations

import argparse
from pathlib import Path

from service.comparison.plan import SCENARIOS
from service.comparison.request import HELD_OUT_SET

NUMBERS = {
    "limit": (int, "examples to draw from the data at most"),
    "seed": (int, "of the draw, the order of blocks and the bootstrap"),
    "batch": (int, "rows of the batch that is measured beside single rows"),
    "blocks": (int, "blocks of 0.2 s for each model and batch size"),
    "calls": (int, "fewest calls of single rows that must count"),
    "margin": (float, "points of accuracy that the first model may lose against the second: the verdict's margin"),
    "threads": (int, "threads of every model's session"),
    "rate": (float, "requests per second that arrive in the scenarios server and http"),
    "price_per_hour": (float, "of the machine: the report tells the price of a million predictions"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything that can be asked; `read_request` checks the values."""
    parser.add_argument("where", nargs="*", help="URL of a service, URLs of two servers, or a models folder")
    parser.add_argument("--models", metavar="A,B", help="two or more, each name or name/version")
    parser.add_argument("--onnx", nargs="+", type=Path, metavar="FILE", help="plain ONNX files instead of models")
    parser.add_argument("--dataset", choices=[HELD_OUT_SET], help="the test set that travels with the models")
    parser.add_argument("--data", type=Path, help="your own examples: .npz, .csv or a folder of images")
    parser.add_argument("--label", default="label", help="the label's column in a .csv; default label")
    parser.add_argument("--scenarios", metavar="A,B", help=f"some of {', '.join(SCENARIOS)}; none for neither of them")
    for name, (kind, text) in NUMBERS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help=text)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where it runs here")
    for name, what in (("json", "JSON"), ("markdown", "Markdown"), ("html", "a self-contained page")):
        parser.add_argument(f"--{name}", type=Path, metavar="FILE", help=f"write the report as {what} too")
    parser.add_argument("--samples", type=Path, metavar="FILE", help="write the raw latencies as .npz")
