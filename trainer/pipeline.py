"""The story on one screen: a teacher's lesson, student and baseline, the table, the repository.

It knows the order of things. How each is done is in the files that it imports.
"""

from __future__ import annotations

from pathlib import Path

from service.manifest import Manifest
from trainer.display import Display
from trainer.evaluate import evaluate
from trainer.lesson import Lesson, Options, load, open_lesson
from trainer.models import contenders_of, model_names, publish_all, reduced_students
from trainer.plots import draw_plots
from trainer.publish import check_repository
from trainer.recipe import Recipe
from trainer.report import hardware, show_results, write_results
from trainer.served import as_served
from trainer.stages import Trained


def train(recipe: Recipe, recipe_dir: Path, options: Options, display: Display) -> list[Manifest]:
    """Runs a recipe from its data to published models and gives their manifests."""
    data = load(recipe, recipe_dir, options, display)
    check_repository(options.models_dir, model_names(recipe), data.split.shape, data.split.classes)
    with open_lesson(recipe, recipe_dir, options, display, data) as lesson:
        students = lesson.student("student", recipe.student, recipe.student.seeds)
        baselines = lesson.baseline("baseline", recipe.student, recipe.student.seeds)
        return finish(lesson, recipe, students, baselines, options.models_dir)


def finish(lesson: Lesson, recipe: Recipe, students: Trained, baselines: Trained, models_dir: Path) -> list[Manifest]:
    """Exports, judges on the test set, publishes, draws and shows what was trained."""
    workshop, members, display = lesson.workshop, lesson.ensemble.members, lesson.workshop.display
    where = hardware(workshop.device)
    contenders = contenders_of(workshop, lesson.ensemble.contender, members, students, baselines)
    contenders += reduced_students(recipe, workshop, contenders[-1])
    contenders[1:1] = [lesson.specialists.contender] if lesson.specialists else []
    with display.stage("test", 1):
        results = evaluate(contenders, members, workshop.split.test, recipe.taught_by)
        made = as_served(workshop.split, contenders, results, recipe.taught_by)
    manifests = publish_all(models_dir, recipe, workshop, made)
    with display.stage("plots", 1):
        draw_plots(workshop.folder, workshop, contenders, results, recipe.student.temperature)
    write_results(workshop.folder, recipe, results, manifests, where)
    is_speech = made.results is not results
    show_results(display.console, results, where, "frame" if is_speech else "image")
    if is_speech:
        display.say("the same of words, as they are served:")
        show_results(display.console, made.results, where, "recording")
    display.say(f"results and plots: {workshop.folder}")
    return manifests
