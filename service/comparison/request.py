"""What a comparison can be asked to do: the fields of POST /compare. It knows no models and no data."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from service.body import check_fields
from service.errors import InputError

MOST_EXAMPLES = 10_000
FEWEST_BLOCKS, MOST_BLOCKS = 3, 100
DEFAULT_LIMIT = 500
DEFAULT_BATCH = 64
DEFAULT_BLOCKS = 10
HELD_OUT_SET = "held-out"
LARGEST_SEED = 2**53 - 1
"""The largest whole number that every JSON reader keeps exactly."""


class CompareRequest(BaseModel):
    """Null means the default; {} compares the newest student with its teacher on 500 held-out examples."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"dataset": HELD_OUT_SET, "limit": 500, "batch": 64}]},
    )

    models: list[str] | None = Field(
        None,
        description="two or more models, each `name` or `name/version`; by default the newest student and its teacher. "
        "The same one twice measures the measurement itself: its speed-up is 1",
    )
    dataset: str | None = Field(
        None, description="`held-out`, the test set that travels with the models; the default without inputs"
    )
    limit: Annotated[int, Field(ge=1, le=MOST_EXAMPLES)] | None = Field(
        None, description=f"examples to draw from the data set at most; by default {DEFAULT_LIMIT}"
    )
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] | None = Field(
        None, description="of the draw, of the order of the blocks and of the bootstrap; by default 0"
    )
    inputs: Annotated[Any, WithJsonSchema({"type": "array", "items": {"type": "array", "items": {}}})] = Field(
        None, description="examples of your own instead of a data set, as for POST /predict"
    )
    labels: Annotated[list[Any], WithJsonSchema({"type": "array", "items": {"type": ["string", "integer"]}})] | None = (
        Field(None, description="the right answers to inputs, each a class or its index, counted from 0")
    )
    batch: Annotated[int, Field(ge=1)] | None = Field(
        None, description=f"rows of the batch that is measured beside single rows; by default {DEFAULT_BATCH}"
    )
    blocks: Annotated[int, Field(ge=FEWEST_BLOCKS, le=MOST_BLOCKS)] | None = Field(
        None, description=f"blocks of 0.2 s for each model and batch size; by default {DEFAULT_BLOCKS}"
    )


def read_request(fields: dict[str, Any]) -> CompareRequest:
    """The request, once its keys, types and ranges are right, and its keys fit together. Raises InputError."""
    request = check_fields(fields, CompareRequest)
    if request.dataset not in {None, HELD_OUT_SET}:
        raise InputError(f"dataset: unknown data set {request.dataset!r}; available: {HELD_OUT_SET}")
    if request.inputs is not None and request.dataset is not None:
        raise InputError("dataset: got it together with inputs, expected one of them")
    if request.inputs is not None and request.limit is not None:
        raise InputError("limit: got it together with inputs, all of which are used; expected it with a data set")
    if request.inputs is None and request.labels is not None:
        raise InputError("labels: got them without inputs; the held-out set has its own")
    return request
