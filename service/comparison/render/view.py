"""A report as its renderers see it: the report, what its models are called, in how many digits it is written."""

from __future__ import annotations

from typing import NamedTuple

from service.comparison.render.names import Names
from service.comparison.render.numbers import Shares
from service.comparison.schema.report import Report


class View(NamedTuple):
    """A report and how to write it down."""

    report: Report
    names: Names
    shares: Shares

    @property
    def labelled(self) -> bool:
        """Whether there are right answers; without them a report has no word of accuracy."""
        return self.report.data.labelled


def view_of(report: Report) -> View:
    """The view of a report."""
    return View(report, Names(report.models, report.pairs), Shares(report.data.examples))
