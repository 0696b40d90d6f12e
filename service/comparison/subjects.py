"""Makes subjects of a comparison from a model repository: sessions of their own, with the same threads for each.

It knows folders and sessions, no data. What the service serves with its own sessions is left alone. The runtime starts
before the first is loaded, so that what one takes in memory and in time is the same in whatever place it is named.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.cascade import Cascade
from service.comparison.subject import Answering, Loaded, Passing, Subject
from service.errors import ModelError
from service.held_out import read_train_hashes
from service.machine import give_back_memory, resident
from service.manifest import GRAPH
from service.model import Model, canary, open_model, read_stored
from service.session import Device, start_runtime

Made = TypeVar("Made", bound=Answering)
RESIDENT_ROWS = 64
"""Rows of the batch after which the memory that a model takes is looked at."""


class Chosen(NamedTuple):
    """A model of a repository: its name and version, the SHA-256 of its graph, and of a cascade the name of its
    student, whose graph that is."""

    name: str
    version: int
    sha256: str
    student: str | None = None


def of_repository(directory: Path, models: Sequence[Chosen], device: Device, threads: int) -> list[Subject]:
    """Those models. Raises ModelError and SettingsError as loading a model does."""
    start_runtime(device, threads, RESIDENT_ROWS)
    subjects = [
        _cascade(directory, model, device, threads)
        if model.student
        else _subject(directory, model.name, model.version, device, threads)
        for model in models
    ]
    for model, subject in zip(models, subjects, strict=True):
        if subject.sha256 != model.sha256:
            raise ModelError(f"{subject.place} is not the model any more that was to be compared: ask again")
    return subjects


def _cascade(directory: Path, chosen: Chosen, device: Device, threads: int) -> Subject:
    """A student and its ensemble, as the student's manifest couples them. Its sessions are its own: what a model takes
    in memory and at the start is that of both. Its multiply-accumulates are the student's, which every row takes."""
    student = _subject(directory, chosen.student or "", chosen.version, device, threads)
    rule = _model(student).manifest.cascade
    if rule is None:
        raise ModelError(f"{student.place} has no rule for a cascade in its manifest")
    ensemble = _subject(directory, rule.name, rule.version, device, threads)
    if ensemble.sha256 != rule.sha256:
        raise ModelError(f"{ensemble.place} is not the ensemble that the cascade of {student.place} asks for")
    cascade = Cascade(_model(student), _model(ensemble), rule)
    return dataclasses.replace(
        student,
        name=chosen.name,
        role="cascade",
        answering=cascade,
        passing=Passing(student.place, rule, _model(ensemble).manifest.multiply_accumulates, cascade.deferred),
        parameters=cascade.manifest.parameters,
        bytes=cascade.manifest.bytes,
        loaded=_both(student.loaded, ensemble.loaded),
    )


def _model(subject: Subject) -> Model:
    assert isinstance(subject.answering, Model)
    return subject.answering


def _both(a: Loaded | None, b: Loaded | None) -> Loaded | None:
    if a is None or b is None:
        return None
    known = a.resident_bytes is not None and b.resident_bytes is not None
    resident_bytes = (a.resident_bytes or 0) + (b.resident_bytes or 0) if known else None
    return Loaded(a.session_s + b.session_s, a.first_s + b.first_s, resident_bytes)


def load(make: Callable[[], Made], rows: NDArray[np.float32]) -> tuple[Made, Loaded]:
    """A session, and what it took to make it, to answer the first row, and in memory after all of these rows: without
    what was freed and is still held, by those before it too."""
    give_back_memory()
    before, began = resident(), perf_counter()
    made = make()
    opened = perf_counter()
    made.run(rows[:1])
    answered = perf_counter()
    made.run(rows)
    give_back_memory()
    after = resident()
    grown = None if before is None or after is None else max(0, after - before)
    return made, Loaded(opened - began, answered - opened, grown)


def _subject(directory: Path, name: str, version: int, device: Device, threads: int) -> Subject:
    stored = read_stored(directory / name / str(version))
    manifest = stored.manifest
    zeros = np.zeros((RESIDENT_ROWS, *manifest.input.shape), dtype=np.float32)
    model, loaded = load(lambda: open_model(stored, device=device, threads=threads), zeros)
    canary(model)
    hashes = read_train_hashes(directory, manifest)
    return Subject(
        name=manifest.name,
        version=manifest.version,
        role=manifest.role,
        classes=manifest.classes,
        shape=manifest.input.shape,
        answering=model,
        sha256=manifest.files[GRAPH].sha256,
        parameters=manifest.parameters,
        multiply_accumulates=manifest.multiply_accumulates,
        bytes=manifest.bytes,
        provider_asked=device,
        provider=model.provider,
        threads=threads_of(model),
        image=manifest.input.image,
        trained_on=None if hashes is None or not len(hashes) else hashes,
        loaded=loaded,
    )


def threads_of(model: Model) -> int:
    """Threads of its session."""
    threads: int = model.session.get_session_options().intra_op_num_threads
    return threads
