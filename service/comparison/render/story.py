"""The sections of a report in their order: the verdict first, how to repeat it last. It knows no layout."""

from __future__ import annotations

from service.comparison.render.blocks import Section
from service.comparison.render.classes import classes_section, confusions_section
from service.comparison.render.conditions import cost_section, data_section, provenance_section
from service.comparison.render.disagreements import disagreements_section
from service.comparison.render.numbers import figures, whole
from service.comparison.render.qualities import quality_section
from service.comparison.render.speeds import speed_section
from service.comparison.render.through_http import http_section
from service.comparison.render.verdicts import verdict_section
from service.comparison.render.view import View

LONGEST = 80


def sections(view: View) -> list[Section]:
    """Those that have something to show."""
    all_ = (
        verdict_section(view),
        speed_section(view),
        http_section(view),
        quality_section(view),
        cost_section(view),
        classes_section(view),
        confusions_section(view),
        disagreements_section(view),
        data_section(view),
        provenance_section(view),
    )
    return [section for section in all_ if section]


def title(view: View) -> str:
    """Who is compared."""
    labels = [view.names.label(place) for place in range(len(view.report.models))]
    named = " vs ".join(labels)
    return named if len(named) <= LONGEST else f"{len(labels)} models compared"


def about(view: View) -> str:
    """On what, where, when."""
    report = view.report
    data = "inputs that were sent" if report.data.dataset is None else f"{report.data.dataset} examples"
    when = report.created.strftime("%Y-%m-%d %H:%M %Z")
    took = f"in {figures(report.seconds)} s"
    return f"On {whole(report.data.examples)} {data}, on {report.machine.processor}, {when}, {took}."
