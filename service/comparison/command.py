"""`python -m service compare`: the same comparison from the command line. It knows arguments and exit statuses.

Where it runs is chosen by what it is given: on a Stillroom service (a URL), here over a model repository (a folder),
here over plain ONNX files (--onnx), or against other servers of the Open Inference Protocol (their URLs, and --data).
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from service.comparison.arguments import NUMBERS
from service.comparison.here import compare_files, compare_repository, compare_servers
from service.comparison.render import html, markdown
from service.comparison.request import CompareRequest, read_request
from service.comparison.schema.report import Report
from service.comparison.service import compare_at_service, is_ours
from service.comparison.task import samples
from service.errors import InputError
from service.settings import Settings, read_settings

KEY = "STILLROOM_API_KEY"
EXITS = {"shown": 0, "refuted": 1, "not shown": 3}
"""By the verdict of the first two models; 2 is for what could not be compared."""


def run(options: argparse.Namespace) -> int:
    """Compares, prints the report, and gives the exit status: 0 where the verdict is `shown` or no margin was stated,
    1 where it is `refuted`, 3 where it is `not shown`. Raises StillroomError."""
    for path in (options.json, options.markdown, options.html, options.samples):
        _check(path)
    report, raw = _compare(options, _asked(options))
    text = markdown(report)
    for path, content in (
        (options.json, report.model_dump_json(indent=1)),
        (options.markdown, text),
        (options.html, html(report) if options.html else ""),
    ):
        if path is not None:
            _write(path, content.encode())
    if options.samples is not None:
        _write(options.samples, raw)
    with suppress(BrokenPipeError):  # whoever reads it has read enough
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal that has no signs beyond ASCII
        print(text, flush=True)  # noqa: T201  # what the command is for
    verdict = report.pairs[0].verdict
    return 0 if verdict is None else EXITS[verdict.result]


def _asked(options: argparse.Namespace) -> CompareRequest:
    """As POST /compare reads it, with the same limits and errors."""
    fields: dict[str, Any] = {name: getattr(options, name) for name in (*NUMBERS, "dataset")}
    fields["models"] = options.models and options.models.split(",")
    if options.scenarios is not None:
        fields["scenarios"] = [name for name in options.scenarios.split(",") if name not in ("", "none")]
    if options.data is not None and options.dataset is not None:
        raise InputError("--dataset: got it together with --data, expected one of them")
    return read_request(fields)


def _compare(options: argparse.Namespace, asked: CompareRequest) -> tuple[Report, bytes]:
    where, is_url = options.where, [place.startswith(("http://", "https://")) for place in options.where]
    settings = read_settings({"device": options.device}, {})
    if options.onnx:
        if where or options.data is None or len(options.onnx) < 2:
            raise InputError("--onnx: expected two files or more, --data with examples, and no other place")
        report, measured = compare_files(options.onnx, options.data, options.label, asked, settings)
        return report, samples(measured)
    if where and all(is_url):
        return _at_servers(options, asked, settings)
    if len(where) != 1:
        raise InputError(f"got {len(where)} places ({', '.join(where)}), expected a URL, two URLs, or a models folder")
    report, measured = compare_repository(Path(where[0]), options.data, options.label, asked, settings)
    return report, samples(measured)


def _at_servers(options: argparse.Namespace, asked: CompareRequest, settings: Settings) -> tuple[Report, bytes]:
    key = os.environ.get(KEY)
    headers = [("Authorization", f"Bearer {key}")] if key else []
    urls = options.where
    if len(urls) == 1 and is_ours(urls[0], headers):
        return compare_at_service(urls[0], headers, options.data, options.label, asked)
    if options.data is None:
        raise InputError("--data: expected examples, because only a Stillroom service has a held-out set to ask for")
    report, measured = compare_servers(urls, headers, options.data, options.label, asked, settings)
    return report, samples(measured)


def _check(path: Path | None) -> None:
    """Before minutes of measuring. Raises InputError."""
    if path is not None and (path.is_dir() or not os.access(path.parent, os.W_OK)):
        raise InputError(f"{path}: cannot be written: {'it is a folder' if path.is_dir() else 'no such folder'}")


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    print(f"written: {path}", file=sys.stderr)  # noqa: T201
