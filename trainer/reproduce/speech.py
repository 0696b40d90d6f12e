"""The paper's acoustic model made anew on public recordings: an ensemble distilled (section 4), and soft targets where
training data are few (section 6). Which rows there are; networks, plans and the report are other files."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

from trainer.display import Display
from trainer.lesson import Data
from trainer.reproduce.acoustic import Acoustic
from trainer.reproduce.command import Experiment, Rows
from trainer.reproduce.few import Few
from trainer.reproduce.lab import Lab
from trainer.reproduce.rows import Figure, Measured
from trainer.reproduce.speech_plan import FULL, QUICK, Plan
from trainer.reproduce.speech_report import write_report
from trainer.speech.corpus import few_of_each, read_corpus
from trainer.speech.frames import Speech, load_speech

PAPERS_FEW = {"hard_3_percent": 44.5, "soft_3_percent": 57.0}


def figures(lab: Lab, speech: Speech, plan: Plan) -> list[Figure]:
    """All rows, in the order in which they are made."""
    made = Acoustic(lab, speech, plan)
    few = Few(made)
    network = "-".join(map(str, (math.prod(speech.shape), *plan.members.hidden, len(speech.classes))))
    members, words = plan.members.members, "word_errors"
    return [
        _row("wer_gaussians", "words by the Gaussians that align", made.wer_gaussians, words),
        _row("single", f"{network}, hard labels", made.single, paper=58.9),
        _row("ensemble", f"{members} of them", made.ensemble, paper=61.1),
        _row("ensemble_gain", "the ensemble over its members", made.ensemble_gain, "points", paper=2.2, goal=1.0),
        *(_at(made, temperature) for temperature in plan.temperatures),
        _row("distilled", "one of them, from the ensemble", made.distilled, paper=60.8),
        _row("gain_kept_by_student", "its gain, of the ensemble's", made.gain_kept, "percent", paper=86, goal=86),
        _row("wer_single", "words by one network", made.wer_single, words, paper=10.9),
        _row("wer_ensemble", f"words by {members} of them", made.wer_ensemble, words, paper=10.7),
        _row("wer_distilled", "words by the student", made.wer_distilled, words, paper=10.7),
        _row("all_data", "all recordings, hard labels", few.all_data, paper=58.9),
        *(figure for share in plan.of_few for figure in _of(few, share)),
        _row("loss_recovered", _recovered(plan), few.recovered, "percent", goal=87),
    ]


def _row(
    name: str,
    title: str,
    measure: Callable[[], Measured],
    metric: str = "test_accuracy",
    paper: float | None = None,
    goal: float | None = None,
) -> Figure:
    return Figure(name, title, paper, goal, "validation", measure, metric)


def _at(made: Acoustic, temperature: float) -> Figure:
    title = f"a student at T = {temperature:g}, on validation"
    return _row(f"distilled_t{temperature:g}", title, partial(made.at, temperature), "validation_accuracy")


def _of(few: Few, share: float) -> list[Figure]:
    """With hard labels and with soft targets."""
    rows = []
    for kind, title in (("hard", "hard labels, stopped early"), ("soft", "soft targets, to the end")):
        name, title = f"{kind}_{100 * share:g}_percent", f"{100 * share:g} % of the recordings, {title}"
        rows.append(_row(name, title, partial(few.of, share, soft=kind == "soft"), paper=PAPERS_FEW.get(name)))
    return rows


def _recovered(plan: Plan) -> str:
    return f"what soft targets make good at {100 * max(plan.of_few):g} %"


def estimate_s(lab: Lab, plan: Plan) -> float:
    """Seconds that all rows take here, from an epoch of the members over a few examples."""
    epochs = plan.members.members * plan.members.epochs
    epochs += plan.student.epochs * (len(plan.temperatures) + plan.seeds - 1)
    few = sum(share * (hard.epochs + soft.epochs) for share, (hard, soft) in plan.of_few.items())
    return (epochs + plan.seeds * few) * lab.seconds(plan.members)


def _load(data_dir: Path | None, quick: bool, display: Display) -> Data:
    plan = QUICK if quick else FULL
    speech = load_speech(few_of_each(read_corpus(plan.corpus, data_dir), plan.each), display)
    return Data(speech, speech.train.inputs[:0])


def _rows(lab: Lab, quick: bool) -> Rows:
    plan, speech = QUICK if quick else FULL, lab.workshop.split
    if not isinstance(speech, Speech):
        raise TypeError(f"got {type(speech).__name__}, expected the frames of speech")
    return Rows(figures(lab, speech, plan), partial(estimate_s, lab, plan))


SPEECH = Experiment("speech", _load, _rows, write_report)
"""Sections 4 and 6."""
