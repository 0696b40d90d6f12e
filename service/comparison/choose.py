"""Which models to compare: from names, or the newest student and its teacher. It knows no data and no timing."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from service.errors import InputError, NotFoundError
from service.library import VERSION, Library
from service.manifest import GRAPH, HELD_OUT
from service.model import Model


def choose(library: Library, names: Sequence[str] | None) -> list[Model]:
    """The models of those names, each `name` (its newest version) or `name/version`, in that order.

    Without names, the newest student, the very version of its teacher that it was distilled from, and the member that
    was published beside that, where there is one.
    Raises NotFoundError, listing what exists, and InputError where the models do not answer the same question.
    """
    if names is not None and len(names) < 2:
        raise InputError(f"models: got {len(names)}, expected two or more of: {_available(library)}")
    models = _student_and_teacher(library) if names is None else [_named(library, name) for name in names]
    for first, second in pairwise(models):
        _check_alike(first, second)
    return models


def place(model: Model) -> str:
    """`name/version`."""
    return f"{model.manifest.name}/{model.manifest.version}"


def _available(library: Library) -> str:
    return ", ".join(model.manifest.name for model in library.newest())


def _named(library: Library, text: str) -> Model:
    name, slash, version = text.partition("/")
    if slash and not VERSION.fullmatch(version):
        raise InputError(f"models: got {text!r}, expected a name or name/version, such as {name or 'digits-student'}/1")
    return library.get(name, int(version) if slash else None)


def _student_and_teacher(library: Library) -> list[Model]:
    student = library.get()
    teacher = student.manifest.teacher
    if teacher is None:
        raise InputError(
            f"{place(student)} is the default model and names no teacher to compare it with; "
            f"expected models with two or more of: {_available(library)}"
        )
    try:
        model = library.get(teacher.name, teacher.version)
    except NotFoundError as error:
        raise NotFoundError(
            f"the teacher of {place(student)} is {teacher.name}/{teacher.version}, which is not loaded: {error}"
        ) from error
    found = model.manifest.files[GRAPH].sha256
    if found != teacher.sha256:
        raise NotFoundError(
            f"{place(model)} is not the teacher that {place(student)} was distilled from: "
            f"its graph has SHA-256 {found[:12]}…, expected {teacher.sha256[:12]}…"
        )
    return [student, model, *_member(library, model)]


def _member(library: Library, teacher: Model) -> list[Model]:
    """The member that was published beside that teacher, where one was: what no averaging costs and brings."""
    name = teacher.manifest.name.removesuffix(f"-{teacher.manifest.role}") + "-member"
    held_out = teacher.manifest.files.get(HELD_OUT)
    found = [model for (own, _), model in sorted(library.models().items()) if own == name]
    alike = [model for model in found if held_out and model.manifest.files.get(HELD_OUT) == held_out]
    return alike[-1:]


def _check_alike(first: Model, second: Model) -> None:
    a, b = first.manifest, second.manifest
    if a.input.shape != b.input.shape:
        raise InputError(
            f"{place(first)} takes {list(a.input.shape)} and {place(second)} takes {list(b.input.shape)}, "
            "expected models that take the same inputs"
        )
    if a.classes != b.classes:
        raise InputError(
            f"{place(first)} knows {_shortly(a.classes)} and {place(second)} knows {_shortly(b.classes)}, "
            "expected models with the same classes in the same order"
        )


def _shortly(classes: Sequence[str]) -> str:
    return f"{len(classes)} classes ({', '.join(classes[:10])}{', …' if len(classes) > 10 else ''})"
