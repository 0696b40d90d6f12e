"""Publishes a student once more, with the rule by which it asks its ensemble: the rule is chosen on validation.

It knows published models and the examples that they were validated on. Which models those are is published.py's, how a
rule is chosen deferral.py's, how one is asked service/cascade.py's. The test part is copied as it lies in the version,
and not looked at.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from service import measures
from service.cascade import cascade_name, confidence
from service.manifest import GRAPH, CascadeRule, FileRecord, Manifest, describe, read_checked
from service.model import Model
from trainer.data import Part, Split, load_data
from trainer.deferral import Choice, Costs, choose, fit_temperature, table
from trainer.display import Display
from trainer.errors import DataError, TrainerError
from trainer.publish import LABELS, Version, publish_version
from trainer.published import find_asked, find_student
from trainer.recipe import Recipe
from trainer.served import validation_as_served

BATCH = 1024


class Asked(NamedTuple):
    """What the command line says: `name` or `name/version`, points of accuracy, where things lie, and, likewise, the
    model that the student is to ask where that is not its teacher."""

    model: str
    max_loss: float
    models_dir: Path
    data_dir: Path | None
    recipe_dir: Path
    ask: str | None = None


def make_cascade(asked: Asked, display: Display) -> Manifest:
    """Chooses a rule for a published student, prints what it costs and brings, and publishes the student with it.

    Raises TrainerError and ModelError, naming the model: unknown, not a student, its teacher or its data other ones.
    """
    student = find_student(asked.models_dir, asked.model)
    ensemble = find_asked(asked.models_dir, student, asked.ask)
    with display.stage("data", 1):
        part = validation_of(student, asked.data_dir, asked.recipe_dir)
    with display.stage("answers", 2) as advance:
        logits_NK = answers(student, part)
        advance(1, student.place)
        ensemble_N = answers(ensemble, part).argmax(axis=1)
    temperature = fit_temperature(logits_NK, part.labels)
    student_N = logits_NK.argmax(axis=1)
    confidence_N = confidence(logits_NK, temperature)
    choice = choose(confidence_N, student_N == part.labels, ensemble_N == part.labels, asked.max_loss)
    display.console.print(table(choice, _costs(student), _costs(ensemble)))
    cascade_N = np.where(confidence_N < choice.cut.threshold, ensemble_N, student_N)
    for note in notes(choice, temperature, cascade_N, ensemble_N, part.labels):
        display.say(note)
    rule = rule_of(ensemble, choice.cut.threshold, temperature)
    with display.stage("publish", 1):
        manifest = publish_with(asked.models_dir, student.manifest, rule)
    display.say(f"asked as {cascade_name(manifest.name)}")
    return manifest


def validation_of(student: Model, data_dir: Path | None, recipe_dir: Path) -> Part:
    """The validation examples of its training, found again by its recipe and proved by its data's checksum."""
    place, data = student.place, student.manifest.data
    try:
        recipe = Recipe.model_validate_json(json.dumps(student.manifest.recipe))
    except ValidationError as error:
        raise TrainerError(
            f"{place}: the recipe in its manifest is none, so its validation examples cannot be found again: "
            f"{describe(error)}"
        ) from error
    try:
        split: Split = load_data(recipe, recipe_dir, data_dir)
    except DataError as error:
        raise DataError(f"{place}: its validation examples are not at hand: {error}") from error
    if split.sha256() != data.sha256:
        raise DataError(
            f"{place}: the data {recipe.data!r} have SHA-256 {split.sha256()[:12]}…, expected {data.sha256[:12]}…: "
            "they are not those that it was trained on"
        )
    return validation_as_served(split)


def answers(model: Model, part: Part) -> NDArray[np.float32]:
    """Its logits [N, K], as it is served."""
    starts = range(0, len(part.labels), BATCH)
    return np.concatenate([model.run(part.inputs[at : at + BATCH].astype(np.float32)).logits_BK for at in starts])


def notes(choice: Choice, temperature: float, cascade_N: NDArray, ensemble_N: NDArray, labels_N: NDArray) -> list[str]:
    """How far to trust it, in sentences."""
    value, (low, high) = measures.accuracy_difference(cascade_N, ensemble_N, labels_N)
    better = int(((cascade_N == labels_N) & (ensemble_N != labels_N)).sum())
    worse = int(((cascade_N != labels_N) & (ensemble_N == labels_N)).sum())
    chosen = f"threshold {choice.cut.threshold:.6g} at temperature {temperature:.6g}"
    return [
        f"chosen: {chosen} defers {choice.cut.deferred} of {choice.examples} validation examples"
        + ("" if choice.cut.deferred else ": the student alone is accurate enough"),
        f"cascade minus ensemble: {100 * value:+.2f} points [{100 * low:+.2f}, {100 * high:+.2f}] (paired, 95 %): "
        f"right alone on {better} examples, wrong alone on {worse}; these examples chose the rule and the student's "
        "epoch, so others may be answered less well",
        "cost: of the ensemble's multiplications a row; ms: a row on one CPU thread, as the manifests have it",
    ]


def rule_of(ensemble: Model, threshold: float, temperature: float) -> CascadeRule:
    """What the student's manifest will say."""
    its = ensemble.manifest
    return CascadeRule(
        name=its.name, version=its.version, sha256=its.files[GRAPH].sha256, threshold=threshold, temperature=temperature
    )


def publish_with(models_dir: Path, manifest: Manifest, rule: CascadeRule) -> Manifest:
    """Publishes every file of a version again, byte for byte, with a manifest that has the rule."""
    folder = models_dir / manifest.name / str(manifest.version)
    files = {name: read_checked(folder, manifest, name) for name in manifest.files}
    labels = tuple((models_dir / manifest.name / LABELS).read_text(encoding="utf-8").splitlines())

    def again(version: int, records: dict[str, FileRecord]) -> Manifest:
        changes = {"version": version, "files": records, "created": datetime.now(UTC), "cascade": rule}
        return manifest.model_copy(update=changes)

    return publish_version(models_dir, Version(manifest.name, labels, manifest.input.graph_shape, files, again))


def _costs(model: Model) -> Costs:
    return Costs(model.manifest.multiply_accumulates, model.manifest.metrics.cpu_ms_per_image)
