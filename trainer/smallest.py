"""The smallest student that will do: a family of them, float32 and int8, judged on validation, one of them published.

It knows how one is chosen; training is lesson.py's, publishing pipeline.py's. Only the chosen meets the test set.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from service import measures
from service.manifest import Manifest
from service.session import open_session
from trainer.candidates import Candidate, table, write_candidates
from trainer.display import Display
from trainer.ensemble import Single
from trainer.errors import ExportError, TrainerError
from trainer.evaluate import through_graph
from trainer.export import Exported, export
from trainer.lesson import Lesson, Options, load, open_lesson
from trainer.models import model_names, proof_inputs
from trainer.pipeline import finish
from trainer.publish import check_repository
from trainer.quantize import reduced
from trainer.recipe import Recipe
from trainer.report import hardware
from trainer.stages import Trained

SAMPLES = 2000
"""Of the latency of one row; p99 wants 662."""


class Limits(NamedTuple):
    """What a student must keep to; None is no limit. `tolerance` is in points of accuracy below the teacher."""

    tolerance: float | None = None
    parameters: int | None = None
    bytes: int | None = None
    p99_ms: float | None = None


def smallest(
    recipe: Recipe,
    recipe_dir: Path,
    options: Options,
    family: Sequence[tuple[int, ...]],
    limits: Limits,
    display: Display,
) -> list[Manifest]:
    """Trains the family, writes `smallest.json`, `.md` and `.png`, and publishes the chosen student with its teacher.

    Raises TrainerError where no student keeps to the limits; the table then says by how much.
    """
    recipe = recipe.for_students()
    for hidden in family:
        recipe.student.changed(hidden=hidden)  # all of them, before the first is trained
    data = load(recipe, recipe_dir, options, display)
    names = model_names(_with(recipe, family[0], "int8"))
    check_repository(options.models_dir, names, data.split.shape, data.split.classes)
    with open_lesson(recipe, recipe_dir, options, display, data, "-smallest") as lesson:
        teacher = _accuracy(lesson, lesson.teacher.contender.exported.graph)
        candidates: list[Candidate] = []
        for hidden in family:
            candidates += _candidates(lesson, recipe, hidden)
        where, examples = hardware(lesson.workshop.device), len(data.split.validation.labels)
        write_candidates(lesson.workshop.folder, candidates, teacher, where)
        display.console.print(table(candidates, teacher))
        display.say(f"accuracy on {examples} validation examples, {recipe.taught_by} {teacher:.2%}; {where}")
        chosen = choose(candidates, teacher, limits)
        display.say(f"chosen: {chosen.title}")
        final = _with(recipe, chosen.hidden, chosen.form)
        students = _train(lesson, final, chosen.hidden)
        baselines = lesson.baseline(_title("baseline", chosen.hidden), final.student, final.student.seeds)
        return finish(lesson, final, students, baselines, options.models_dir)


def choose(candidates: Sequence[Candidate], teacher: float, limits: Limits) -> Candidate:
    """With a tolerance the one with the fewest bytes that keeps to all limits; without, the most accurate that does.

    Raises TrainerError where none does.
    """
    kept = [candidate for candidate in candidates if _keeps(candidate, teacher, limits)]
    if not kept:
        nearest = max(candidates, key=lambda candidate: candidate.accuracy)
        raise TrainerError(
            f"no student keeps to {_text(limits)}; the most accurate is {nearest.title}: "
            f"{100 * (teacher - nearest.accuracy):.2f} points below the teacher, {nearest.parameters:,} parameters, "
            f"{nearest.bytes:,} bytes, p99 {nearest.p99_ms:.4f} ms; give other ones with --hidden"
        )
    if limits.tolerance is not None:
        return min(kept, key=lambda candidate: (candidate.bytes, -candidate.accuracy))
    return max(kept, key=lambda candidate: (candidate.accuracy, -candidate.bytes))


def _keeps(candidate: Candidate, teacher: float, limits: Limits) -> bool:
    below = 100 * (teacher - candidate.accuracy)
    pairs = (
        (below, None if limits.tolerance is None else limits.tolerance + 1e-9),  # 0.1 points are 0.1 after rounding
        (candidate.parameters, limits.parameters),
        (candidate.bytes, limits.bytes),
        (candidate.p99_ms, limits.p99_ms),
    )
    return all(limit is None or value <= limit for value, limit in pairs)


def _text(limits: Limits) -> str:
    names = {"tolerance": "points below the teacher", "p99_ms": "ms at p99"}
    given = ((names.get(key, key), value) for key, value in limits._asdict().items() if value is not None)
    return " and ".join(f"{value:g} {name}" for name, value in given)


def _with(recipe: Recipe, hidden: tuple[int, ...], form: str) -> Recipe:
    """The recipe with the student chosen."""
    forms = dict.fromkeys((*recipe.student.reduced, *(["int8"] if form == "int8" else [])))
    return recipe.model_copy(update={"student": recipe.student.changed(hidden=hidden, reduced=tuple(forms))})


def _title(what: str, hidden: tuple[int, ...]) -> str:
    return f"{what}-{'x'.join(map(str, hidden)) or 'linear'}"


def _train(lesson: Lesson, recipe: Recipe, hidden: tuple[int, ...]) -> Trained:
    settings = recipe.student.changed(hidden=hidden)
    return lesson.student(_title("student", hidden), settings, settings.seeds)


def _candidates(lesson: Lesson, recipe: Recipe, hidden: tuple[int, ...]) -> list[Candidate]:
    """A student in float32 and, unless it loses too much, in int8; of several seeds the best on validation."""
    split, trained = lesson.workshop.split, _train(lesson, recipe, hidden)
    proof = proof_inputs(split)
    made = {"float32": export(Single(trained.networks[trained.best]), proof)}
    try:
        made["int8"] = reduced(made["float32"], "int8", proof, split.validation, recipe.student.allowed_drop)
    except ExportError as error:
        lesson.workshop.display.say(f"{_title('student', hidden)}: {error}")
    return [
        Candidate(hidden, form, _accuracy(lesson, e.graph), e.parameters, len(e.graph), p99_ms(e, proof[:1]))
        for form, e in made.items()
    ]


def _accuracy(lesson: Lesson, graph: bytes) -> float:
    part = lesson.workshop.split.validation
    return measures.accuracy(through_graph(graph, part).argmax(axis=1), part.labels).value


def p99_ms(exported: Exported, example: np.ndarray) -> float:
    """The time of one row [1, ...] on one CPU thread that 99 % of the runs stay below, in ms; a tenth warms up."""
    session = open_session(exported.graph, device="cpu", threads=1)
    samples = np.empty(SAMPLES)
    for index in range(-SAMPLES // 10, SAMPLES):
        start = time.perf_counter()
        session.run(None, {"input": example})
        samples[index] = time.perf_counter() - start  # what warms up is overwritten
    return float(np.quantile(samples, 0.99)) * 1000.0
