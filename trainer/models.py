"""From trained networks to published models: graphs, names, roles and manifests. It does not know training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from service import measures
from service.errors import ModelError
from service.manifest import (
    GRAPH,
    DataReference,
    FileRecord,
    Manifest,
    Metrics,
    Reference,
    Role,
    Weights,
    read_manifest,
)
from trainer.checkpoint import write_bytes
from trainer.data.split import Split
from trainer.ensemble import Single
from trainer.errors import ExportError, RunError
from trainer.evaluate import Contender, Row
from trainer.export import export
from trainer.publish import Artefact, publish
from trainer.quantize import reduced
from trainer.recipe import Recipe
from trainer.served import AsServed, Served
from trainer.stages import Trained, Workshop

LIBRARIES = ("torch", "onnx", "onnxruntime", "onnxruntime-gpu", "numpy")
ROLES: tuple[Role, ...] = ("ensemble", "member", "specialists", "baseline", "student")
PROOF_EXAMPLES = 1000


def proof_inputs(split: Split) -> NDArray[np.float32]:
    """Real inputs [N, ...] on which a graph is proved."""
    return split.validation.inputs[:PROOF_EXAMPLES].astype(np.float32)


def contenders_of(
    workshop: Workshop, ensemble: Contender, members: Sequence[nn.Module], students: Trained, baselines: Trained
) -> list[Contender]:
    """Ensemble, member, baseline and student, all but the first exported; of several seeds the one that validation
    chose. Of the members, where there are any, it is the first: one network alone has no others to be chosen from."""
    proof = proof_inputs(workshop.split)
    chosen: list[tuple[Role, nn.Module, int, Sequence[nn.Module]]]
    chosen = [("member", network, ensemble.seeds[0], []) for network in members[:1]]
    roles: tuple[tuple[Role, Trained], ...] = (("baseline", baselines), ("student", students))
    chosen += [(role, t.networks[t.best], t.seeds[t.best], t.networks) for role, t in roles]
    contenders = [ensemble]
    with workshop.display.stage("export", len(chosen)) as advance:
        for done, (role, network, seed, alike) in enumerate(chosen, start=1):
            contenders.append(Contender(role, export(Single(network), proof), [seed], alike))
            advance(done, role)
    return contenders


def reduced_students(recipe: Recipe, workshop: Workshop, student: Contender) -> list[Contender]:
    """The reduced forms that the recipe asks for; one that loses too much on validation is told and left out."""
    found: list[Contender] = []
    calibration = workshop.split.train.inputs[:PROOF_EXAMPLES].astype(np.float32)
    validation, allowed = workshop.split.validation, recipe.student.allowed_drop
    for kind in recipe.student.reduced:
        try:
            with workshop.display.stage(kind, 1):
                made = reduced(student.exported, kind, calibration, validation, allowed)
        except ExportError as error:
            workshop.display.say(f"{model_name(recipe, f'student-{kind}')} is not published: {error}")
        else:
            found.append(student._replace(exported=made, alike=[], reduced=kind))
    return found


def model_name(recipe: Recipe, label: str) -> str:
    """`<recipe>-<label>`."""
    return f"{recipe.name}-{label}"


def model_names(recipe: Recipe) -> list[str]:
    """What a run of this recipe publishes."""
    left_out = {"member"} if recipe.teacher is not None else set()  # a given teacher has none
    left_out |= {"specialists"} if recipe.specialists is None else set()
    roles = (role for role in ROLES if role not in left_out)
    labels = (*roles, *(f"student-{kind}" for kind in recipe.student.reduced))
    return [model_name(recipe, label) for label in labels]


def publish_all(models_dir: Path, recipe: Recipe, workshop: Workshop, made: AsServed) -> list[Manifest]:
    """Publishes each contender, the teacher before its student, which names it. What a resumed run has already
    published is left as it is."""
    contenders, results, served = made
    rows = {row.role: row for row in results.rows} | ({"member": results.member} if results.member else {})
    path = workshop.folder / "published.json"
    record = read_record(path)
    manifests: list[Manifest] = []
    teacher: Reference | None = None
    with workshop.display.stage("publish", len(contenders)) as advance:
        for contender in contenders:
            row, its = rows[contender.label], served[contender.label]
            manifest = _published_before(models_dir, record.get(contender.label), contender) or publish(
                models_dir, artefact(recipe, workshop.split, contender, row, its, teacher)
            )
            manifests.append(manifest)
            record[contender.label] = [manifest.name, manifest.version]
            write_bytes(path, json.dumps(record).encode())
            if contender.role == recipe.taught_by:
                teacher = Reference(name=manifest.name, version=manifest.version, sha256=contender.exported.sha256)
            advance(len(manifests), f"{manifest.name}/{manifest.version}")
    return manifests


def artefact(
    recipe: Recipe, split: Split, contender: Contender, row: Row, served: Served, teacher: Reference | None
) -> Artefact:
    """What `publish` needs to publish a contender as `<recipe>-<label>`."""
    name = model_name(recipe, contender.label)
    distilled = contender.role == "student"
    soft, hard = recipe.student.weights

    def manifest(version: int, files: dict[str, FileRecord]) -> Manifest:
        return Manifest(
            name=name,
            version=version,
            role=contender.role,
            classes=served.classes,
            input=served.input,
            teacher=teacher if distilled else None,
            combination=contender.combination,
            recipe=recipe.model_dump(mode="json"),
            temperature=recipe.student.temperature if distilled else None,
            weights=Weights(soft=soft, hard=hard) if distilled else None,
            data=DataReference(name=split.name, sha256=split.sha256()),
            seeds=tuple(contender.seeds),
            metrics=_metrics(row),
            largest_difference=contender.exported.largest_difference,
            parameters=contender.exported.parameters,
            multiply_accumulates=contender.exported.multiply_accumulates,
            bytes=len(contender.exported.graph),
            files=files,
            libraries=library_versions(),
            created=datetime.now(UTC),
        )

    graph, interface = contender.exported.graph, (name, split.classes, split.shape)
    return Artefact(*interface, graph, served.held_out, served.train_inputs, manifest, served.files)


def library_versions() -> dict[str, str]:
    """Installed versions of what trains and exports; onnxruntime comes as one of two packages."""
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = installed_version(library)
        except PackageNotFoundError:
            continue
    return found


def _metrics(row: Row) -> Metrics:
    right = row.examples - int(row.errors)
    return Metrics(
        examples=row.examples,
        errors=int(row.errors),
        accuracy=right / row.examples,
        accuracy_interval=measures.wilson(right, row.examples),
        nll=row.nll,
        ece=row.ece,
        agreement=row.agreement,
        cpu_ms_per_image=row.cpu_ms,
    )


def read_record(path: Path) -> dict[str, list[Any]]:
    """What this run has published: label -> [name, version]."""
    try:
        record: dict[str, list[Any]] = json.loads(path.read_bytes()) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is damaged ({error}); run again without --resume") from error
    return record


def _published_before(models_dir: Path, record: list[Any] | None, contender: Contender) -> Manifest | None:
    """The manifest of what this run published earlier, where it still stands and has the same graph."""
    if record is None:
        return None
    name, version = record
    try:
        manifest = read_manifest(models_dir / name / str(version))
    except ModelError:
        return None
    return manifest if manifest.files[GRAPH].sha256 == contender.exported.sha256 else None
