"""The command line: `python -m service [serve]`, `python -m service compare`, and `python -m service key`.

It knows flags, sockets, signals and exit statuses. What is served is app.py's.
"""

from __future__ import annotations

import argparse
import errno
import multiprocessing
import os
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from typing import NoReturn

from service import log
from service.app import create_app
from service.comparison.arguments import add_arguments
from service.errors import SettingsError, StillroomError
from service.front import keys
from service.front.server import serve_alone, serve_with_workers
from service.session import open_session
from service.settings import Settings, flag_of, help_of, read_settings
from service.tracing import check_traces

BACKLOG = 2048
INTERRUPTED, TERMINATED = 130, 143
"""What a shell gives for SIGINT and SIGTERM."""
VERBS = ("serve", "compare", "key")
PROBE = (
    b'\x08\x08:;\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x05probeZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)
"""The smallest ONNX graph, y = Identity(x): only a session tells whether a provider really starts."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; see --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and gives its exit status: 0, or 2 where it could not start."""
    # After a clean shutdown uvicorn raises the signal again; before it, there is nothing to shut down.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        options = _parser().parse_args(_with_verb(sys.argv[1:] if arguments is None else arguments))
        given = vars(options)
        if given["verb"] == "compare":
            return compare(options)
        if given["verb"] == "key":
            make_key(given["name"], given["scopes"].split(","))
        else:
            serve(read_settings(given, os.environ))
    except StillroomError as error:
        print(f"service: {error}", file=sys.stderr)  # noqa: T201  # the command line speaks to its user
        return 2
    except KeyboardInterrupt:
        return 0
    return 0


def compare(options: argparse.Namespace) -> int:
    """Compares models, and gives the exit status that the verdict asks for: no other end may look like a verdict."""
    from service.comparison import command  # a server needs none of it

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        return command.run(options)
    except KeyboardInterrupt:
        return INTERRUPTED
    except StillroomError:
        raise
    except Exception:
        traceback.print_exc()
        return 2


def make_key(name: str, scopes: Sequence[str]) -> None:
    """Prints a new key and the line that makes it known. Raises SettingsError for a name or a scope that cannot be."""
    secret, line = keys.make_key(name, scopes)
    print(f"the key, shown this once:   {secret}\na line for --api-keys-file: {line}")  # noqa: T201  # as asked


def serve(settings: Settings) -> None:
    """Serves until SIGTERM or Ctrl-C. Raises SettingsError where it cannot start as asked."""
    log.set_up(settings.log_format, every_request=settings.access_log)
    check_directory(settings.models_dir)
    check_workers(settings)
    if settings.traces:
        check_traces()
    if settings.state_dir is not None:
        make_state_dir(settings.state_dir)
    if settings.device == "cuda":
        check_cuda(apart=settings.workers > 1)
    with listen(settings.host, settings.port) as listener:
        app = create_app(replace(settings, port=listener.getsockname()[1]))
        app.state.comparisons.check()
        if settings.workers == 1:
            serve_alone(app, listener)
        else:
            serve_with_workers(app, listener, settings.workers)


def check_directory(directory: Path) -> None:
    """Raises SettingsError where `directory` is something that cannot be read as a folder; it may be missing yet."""
    try:
        next(directory.iterdir(), None)
    except FileNotFoundError:
        return
    except OSError as error:
        raise SettingsError(
            f"--models-dir: got {str(directory)!r}, expected a folder that can be read: {error.strerror}"
        ) from error


def check_workers(settings: Settings) -> None:
    """Raises SettingsError for what several workers cannot do."""
    if settings.workers > 1 and settings.model_control:
        raise SettingsError(
            f"--model-control: got it with {settings.workers} workers, expected one: "
            "a model is loaded or unloaded in the worker that is asked, not in the others"
        )


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to that address before anything is loaded, so that a taken port is known at once.

    Raises SettingsError, naming what is wrong with the address.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise SettingsError(f"--host: got {host!r}, expected an address of this machine: {error.strerror}") from error
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise SettingsError(f"port {port} of {host} is taken: choose another with --port, 0 for any") from error
        raise SettingsError(f"cannot listen on port {port} of {host}: {error.strerror}") from error
    return listener


def check_cuda(*, apart: bool = False) -> None:
    """Raises SettingsError where onnxruntime cannot run a graph with CUDA, whatever it was built with.

    Where workers are forked it is tried in a process `apart`: CUDA that was started does not survive a fork.
    """
    if apart:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            pool.submit(check_cuda).result()
        return
    try:
        open_session(PROBE, device="cuda", threads=1)
    except SettingsError:
        raise
    except Exception as error:  # onnxruntime's own exceptions share no other base class
        raise SettingsError(f"asked for cuda, but onnxruntime cannot start it: {error}") from error


def make_state_dir(folder: Path) -> None:
    """Makes the one folder that the service may write to. Raises SettingsError where it cannot."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"--state-dir: got {str(folder)!r}, expected a folder that can be made: {error.strerror}"
        ) from error


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m service", description="Serves every model of a model repository, and compares them."
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verb = verbs.add_parser(
        "serve",
        allow_abbrev=False,
        help="serve the models over HTTP (without a verb, this)",
        description="Serves the models over HTTP. Every option is a STILLROOM_ variable too; the option wins.",
    )
    for setting in fields(Settings):
        verb.add_argument(flag_of(setting.name), help=help_of(setting.name), metavar=setting.name.upper())
    add_arguments(
        verbs.add_parser(
            "compare",
            allow_abbrev=False,
            help="compare models, here or at a service, and judge by the exit status",
            description="Compares models and prints the report. Exit status: 0 where the verdict is `shown` or no "
            "margin was stated, 1 where it is `refuted`, 3 where it is `not shown`, 2 for an error.",
        )
    )
    verb = verbs.add_parser(
        "key", help="make an API key", description="Makes an API key, and the line by which the service knows it."
    )
    verb.add_argument("name", help="whose it is, for the log: letters, digits, . _ -")
    verb.add_argument(
        "--scopes", default="predict", metavar="A,B", help=f"some of {', '.join(keys.SCOPES)}; default predict"
    )
    return parser


def _with_verb(arguments: Sequence[str]) -> list[str]:
    """The arguments after their verb, which is `serve` where none is given."""
    if arguments and (arguments[0] in VERBS or arguments[0] in {"-h", "--help"}):
        return list(arguments)
    return ["serve", *arguments]


if __name__ == "__main__":
    sys.exit(main())
