"""What GET /compare shows of a comparison. It computes nothing."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from service.comparison.schema.report import Report
from service.comparison.store import Job, State


class JobProgress(BaseModel):
    """How far a comparison is."""

    done: float = Field(description="seconds of the work that are done")
    total: float = Field(description="seconds that all of it takes, as far as is known")
    doing: str


class JobDocument(BaseModel):
    """A comparison: where it stands and, once it is done, its report."""

    id: str
    state: State
    created: str
    started: str | None
    ended: str | None
    models: list[str] = Field(description="name/version of each")
    progress: JobProgress | None
    headline: str | None = Field(description="the report in one sentence")
    verdict: str | None = Field(description="of the first pair, where a margin was stated")
    error: str | None = Field(description="why there is no report")
    report: Report | None = None


class Jobs(BaseModel):
    """The comparisons that are kept."""

    comparisons: list[JobDocument]


def document(job: Job, report: Report | None = None) -> JobDocument:
    """As it is shown."""
    fields: dict[str, Any] = job._asdict()
    del fields["status"]
    return JobDocument(**fields, report=report)
