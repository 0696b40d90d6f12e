"""What every part of a report is made of. It computes nothing."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Interval = tuple[float, float]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]


class Part(BaseModel):
    """A part of the report: immutable, every number finite. A reader passes over fields that are newer than itself."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Estimate(Part):
    """A value and its 95 % interval."""

    value: float
    interval: Interval
