"""The story on one screen: a teacher's lesson, student and baseline, the table, the repository.

It knows the order of things. How each is done is in the files that it imports.
"""

from __future__ import annotations

from pathlib import Path

from service.manifest import Manifest
from trainer.display import Display
from trainer.evaluate import evaluate
from trainer.lesson import Options, load, open_lesson, pick_device
from trainer.models import contenders_of, model_names, publish_all, reduced_students
from trainer.plots import draw_plots
from trainer.publish import check_repository
from trainer.recipe import Recipe
from trainer.report import hardware, show_results, write_results


def train(recipe: Recipe, recipe_dir: Path, options: Options, display: Display) -> list[Manifest]:
    """Runs a recipe from its data to published models and gives their manifests."""
    where = hardware(pick_device(options.device))
    data = load(recipe, recipe_dir, options, display)
    split = data.split
    check_repository(options.models_dir, model_names(recipe), split.shape, split.classes)
    with open_lesson(recipe, recipe_dir, options, display, data) as lesson:
        workshop, teacher = lesson.workshop, lesson.taught_by
        students = lesson.student("student", recipe.student, recipe.student.seeds)
        baselines = lesson.baseline("baseline", recipe.student, recipe.student.seeds)

        contenders = contenders_of(workshop, teacher.exported, teacher.seeds, students, baselines)
        contenders += reduced_students(recipe, workshop, contenders[-1])
        with display.stage("test", 1):
            results = evaluate(contenders, teacher.members, split.test)
        manifests = publish_all(options.models_dir, recipe, workshop, contenders, results)
        with display.stage("plots", 1):
            draw_plots(workshop.folder, workshop, contenders, results, recipe.student.temperature)
        write_results(workshop.folder, recipe, results, manifests, where)
        show_results(display.console, results, where)
        display.say(f"results and plots: {workshop.folder}")
        return manifests
