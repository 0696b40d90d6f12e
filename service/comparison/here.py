"""Comparisons in this process, for the command line: over a repository, over ONNX files, over other servers.

It knows how subjects and data are made of what the user has; progress goes to the standard error stream.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from service.comparison.client.address import read_url
from service.comparison.compare import compare
from service.comparison.data import Data, sent
from service.comparison.exclusive import alone
from service.comparison.measurement import Measured
from service.comparison.onnx_files import of_files
from service.comparison.own_data import Examples, draw, fitted, read_examples
from service.comparison.plan import Plan
from service.comparison.remote import RemoteModel, connect
from service.comparison.request import CompareRequest
from service.comparison.schema.report import Report
from service.comparison.start import check_margin, make_plan, start
from service.comparison.subject import Subject
from service.comparison.subjects import of_repository
from service.comparison.terminal import Terminal
from service.comparison.through_http import Prepared
from service.errors import BusyError, InputError
from service.library import Library
from service.manifest import Manifest
from service.settings import Settings

LOOK_S = 0.5
"""How often it looks whether its turn has come."""

Compared = tuple[Report, list[Measured]]


def compare_repository(
    directory: Path, data: Path | None, label: str, asked: CompareRequest, settings: Settings
) -> Compared:
    """Models of a repository on its held-out set, or on the user's data."""
    if not directory.is_dir():
        raise InputError(f"{directory}: no such folder, expected a model repository or a URL")
    with Terminal() as terminal:
        terminal.say("loading the models")
        library = Library(directory, device=settings.device)
        library.scan()
        own = None if data is None else partial(_of_manifest, data, label, asked)
        task = start(asked, library, settings, own).task
        del library  # its sessions; those that are compared are made anew
        with _turn(terminal):
            subjects = of_repository(directory, task.models, task.device, task.plan.threads)
            return compare(subjects, task.data, dataclasses.replace(task.plan, tell=terminal.tell))


def compare_files(paths: Sequence[Path], data: Path, label: str, asked: CompareRequest, settings: Settings) -> Compared:
    """ONNX files on the user's data."""
    if asked.models is not None:
        raise InputError("--models: got it together with --onnx, expected one of them")
    with Terminal() as terminal:
        examples = read_examples(data, None, label=label)
        plan = make_plan(asked, settings, settings.max_batch)
        with _turn(terminal):
            subjects = of_files(paths, examples.inputs, examples.classes, settings.device, plan.threads)
            found = _data(examples, subjects[0].classes, asked.limit, plan.seed)
            check_margin(plan, found)
            return compare(subjects, found, dataclasses.replace(plan, tell=terminal.tell))


def compare_servers(
    urls: Sequence[str],
    headers: Iterable[tuple[str, str]],
    data: Path,
    label: str,
    asked: CompareRequest,
    settings: Settings,
) -> Compared:
    """Models behind one URL or several on the user's data: model i is asked at URL i, or all of them at the one."""
    names = asked.models or []
    if len(names) < 2 or len(urls) not in (1, len(names)):
        raise InputError(
            f"--models: got {len(names)} for {len(urls)} URLs, expected two or more, at one URL or at one for each"
        )
    with Terminal() as terminal, ExitStack() as opened:
        places = urls if len(urls) == len(names) else [urls[0]] * len(names)
        # A key is for the server that it was made for: another one must not see it.
        keys = [headers if read_url(url)[1:5] == read_url(urls[0])[1:5] else () for url in places]
        found_at = zip(places, names, keys, strict=True)
        remotes = [opened.enter_context(_connect(url, name, key)) for url, name, key in found_at]
        examples = read_examples(data, None, label=label)
        for remote in remotes:
            remote.run(examples.inputs[:1])
        classes = examples.classes or list(map(str, range(remotes[0].classes or 2)))
        if any(remote.classes != len(classes) for remote in remotes):
            counts = ", ".join(f"{remote.name} {remote.classes}" for remote in remotes)
            raise InputError(f"the models have different numbers of classes ({counts}), expected {len(classes)} each")
        plan = _remote_plan(make_plan(asked, settings, settings.max_batch), remotes)
        found = _data(examples, classes, asked.limit, plan.seed)
        check_margin(plan, found)
        subjects = [_remote_subject(remote, classes, examples) for remote in remotes]
        with _turn(terminal):
            return compare(subjects, found, dataclasses.replace(plan, tell=terminal.tell))


@contextmanager
def _turn(terminal: Terminal) -> Iterator[None]:
    """Waits, and says so, until nobody else of this user compares on this machine."""
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(alone())
                break
            except BusyError:
                terminal.say("waiting for another comparison on this machine to end")
                time.sleep(LOOK_S)
        yield


def _remote_plan(plan: Plan, remotes: Sequence[RemoteModel]) -> Plan:
    """What a server does behind its URL can only be asked through HTTP, and with as many rows as it takes."""
    most = min([plan.max_batch, *(remote.interface.max_rows or plan.max_batch for remote in remotes)])
    scenarios = tuple(dict.fromkeys((*plan.scenarios, "http")))
    return dataclasses.replace(plan, scenarios=scenarios, max_batch=most, batch=min(plan.batch, most))


def _connect(url: str, name: str, headers: Iterable[tuple[str, str]]) -> RemoteModel:
    plain, _, version = name.partition("/")
    return connect(url, plain, version or None, headers)


def _remote_subject(remote: RemoteModel, classes: Sequence[str], examples: Examples) -> Subject:
    version = int(remote.version) if remote.version and remote.version.isdecimal() else None
    return Subject(
        name=remote.name,
        version=version,
        role="remote",
        classes=classes,
        shape=examples.inputs.shape[1:],
        answering=remote,
        timed=Prepared(remote),
        is_here=False,
        remote=remote,
    )


def _of_manifest(path: Path, label: str, asked: CompareRequest, manifest: Manifest) -> Data:
    """The user's data, for a model of a repository."""
    takes = manifest.input
    examples = read_examples(path, takes.shape, label=label, image=takes.image, audio=takes.audio)
    return _data(examples, manifest.classes, asked.limit, asked.seed or 0)


def _data(examples: Examples, classes: Sequence[str], limit: int | None, seed: int) -> Data:
    """All examples, or as many as were asked for, drawn at random."""
    drawn = draw(fitted(examples, classes), limit, seed)
    return sent(drawn.inputs, drawn.labels, classes)
