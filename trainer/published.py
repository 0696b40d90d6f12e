"""Published models by what a user calls them: a student, and the model that it is to ask.

It knows the repository's folders and manifests, not what a cascade is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from service.errors import ModelError
from service.manifest import GRAPH, read_manifest
from service.model import Model, load_model
from trainer.errors import TrainerError

VERSION = re.compile(r"[1-9][0-9]{0,8}")


def find_student(models_dir: Path, text: str) -> Model:
    """The student of that name, in its newest version, or of that name and version."""
    model = find_model(models_dir, text)
    if model.manifest.role != "student":
        raise TrainerError(f"{model.place} is of the role {model.manifest.role!r}, expected a student")
    return model


def find_model(models_dir: Path, text: str) -> Model:
    """Likewise of any role."""
    name, slash, version = text.partition("/")
    names = sorted(folder.name for folder in _folders(models_dir) if _versions(folder))
    if name not in names:
        raise TrainerError(f"unknown model {name!r}; available in {models_dir}: {', '.join(names) or 'none'}")
    versions = _versions(models_dir / name)
    if slash and version not in map(str, versions):
        raise TrainerError(f"unknown version {version!r} of {name}; available: {', '.join(map(str, versions))}")
    folder = models_dir / name
    return load_model(folder / (version if slash else str(_newest(folder, versions))), device="cpu")


def find_asked(models_dir: Path, student: Model, text: str | None) -> Model:
    """The model of that name, or of that name and version; without one, the student's teacher."""
    model = find_teacher(models_dir, student) if text is None else find_model(models_dir, text)
    if model.manifest.files[GRAPH].sha256 == student.manifest.files[GRAPH].sha256:
        raise TrainerError(
            f"{student.place} cannot ask {model.place}: both have the same graph, expected another model"
        )
    _check_alike(model, student)
    return model


def _check_alike(model: Model, student: Model) -> None:
    """Same inputs, same classes, same data in the same parts: else it may know the examples that choose the rule."""
    its, mine, cannot = model.manifest, student.manifest, f"{student.place} cannot ask {model.place}"
    for what, found, expected in (
        ("classes are", list(its.classes), list(mine.classes)),
        ("inputs have shape", list(its.input.shape), list(mine.input.shape)),
        ("image is", its.input.image, mine.input.image),
    ):
        if found != expected:
            raise TrainerError(f"{cannot}: its {what} {found}, expected {expected}")
    if its.data.sha256 != mine.data.sha256:
        raise TrainerError(
            f"{cannot}: it was trained on {its.data.name!r} with SHA-256 {its.data.sha256[:12]}…, expected "
            f"{mine.data.name!r} with {mine.data.sha256[:12]}…: it may have learnt the validation examples that choose "
            "the rule"
        )


def find_teacher(models_dir: Path, student: Model) -> Model:
    """The very version that it was distilled from."""
    teacher, place = student.manifest.teacher, student.place
    if teacher is None:
        raise TrainerError(f"{place} names no teacher that it was distilled from, expected one to ask")
    model = load_model(models_dir / teacher.name / str(teacher.version), device="cpu")
    found = model.manifest.files[GRAPH].sha256
    if found != teacher.sha256:
        raise TrainerError(
            f"{model.place} is not the teacher that {place} was distilled from: its graph has SHA-256 {found[:12]}…, "
            f"expected {teacher.sha256[:12]}…"
        )
    return model


def _folders(models_dir: Path) -> list[Path]:
    try:
        return [folder for folder in models_dir.iterdir() if folder.is_dir() and not folder.name.startswith(".")]
    except OSError as error:
        raise TrainerError(f"cannot read the model repository {models_dir}: {error.strerror}") from error


def _versions(folder: Path) -> list[int]:
    return sorted(int(entry.name) for entry in folder.iterdir() if VERSION.fullmatch(entry.name))


def _newest(folder: Path, versions: Sequence[int]) -> int:
    """By its manifest's creation time, as for the service; a version whose manifest cannot be read is none."""
    created = {}
    for version in versions:
        try:
            created[version] = read_manifest(folder / str(version)).created, version
        except ModelError:
            continue
    return max(created, key=created.__getitem__) if created else versions[-1]
