"""What a comparison can be asked to do: the fields of POST /compare. It knows no models and no data."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from service.body import check_fields
from service.comparison.plan import USUAL, Scenario
from service.errors import InputError

MOST_EXAMPLES = 10_000
FEWEST_BLOCKS, MOST_BLOCKS = 3, 100
MOST_MODELS = 16
MOST_CALLS = 1_000_000
MOST_THREADS = 1024
MOST_RATE = 1_000_000.0
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
        json_schema_extra={"examples": [{"dataset": HELD_OUT_SET, "limit": 500, "batch": 64, "margin": 0.5}]},
    )

    models: list[str] | None = Field(
        None,
        description="two or more models, each `name` or `name/version`; by default the newest student, its teacher "
        "and a member of that where one is published. "
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
    calls: Annotated[int, Field(ge=0, le=MOST_CALLS)] | None = Field(
        None,
        description="calls of single rows that must count for each model, however many blocks they take; by default 0. "
        "A p99 is told from 662 on, a p99.9 from 6636 on",
    )
    margin: Annotated[float, Field(ge=0.0, le=100.0, allow_inf_nan=False)] | None = Field(
        None,
        description="percentage points of accuracy that the first model of a pair may lose against the second, stated "
        "before anything is measured: the verdict says whether that is shown, not shown or refuted; by default no "
        "verdict is given",
    )
    scenarios: list[Scenario] | None = Field(
        None,
        description="what is measured beside single rows and the batch: `offline` (throughput at the best batch), "
        "`server` (random arrivals), `alternating` (the models take turns), `http` (the whole path of a request); by "
        f"default {', '.join(USUAL)}",
    )
    threads: Annotated[int, Field(ge=1, le=MOST_THREADS)] | None = Field(
        None, description="threads of every model's session; by default as many as a large model is served with"
    )
    rate: Annotated[float, Field(ge=1.0, le=MOST_RATE, allow_inf_nan=False)] | None = Field(
        None,
        description="requests per second that arrive in the scenarios `server` and `http`; by default half of what the "
        "slowest model answered one by one, in `server` without HTTP and in `http` through it",
    )
    price_per_hour: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None = Field(
        None, description="of this machine, in any currency: the report tells the price of a million predictions"
    )


def read_request(fields: dict[str, Any]) -> CompareRequest:
    """The request, once its keys, types and ranges are right, and its keys fit together. Raises InputError."""
    request = check_fields(fields, CompareRequest)
    if request.models is not None and len(request.models) > MOST_MODELS:
        raise InputError(f"models: got {len(request.models)}, expected at most {MOST_MODELS}")
    if request.dataset not in {None, HELD_OUT_SET}:
        raise InputError(f"dataset: unknown data set {request.dataset!r}; available: {HELD_OUT_SET}")
    if request.inputs is not None and request.dataset is not None:
        raise InputError("dataset: got it together with inputs, expected one of them")
    if request.inputs is not None and request.limit is not None:
        raise InputError("limit: got it together with inputs, all of which are used; expected it with a data set")
    if request.inputs is None and request.labels is not None:
        raise InputError("labels: got them without inputs; the held-out set has its own")
    return request
