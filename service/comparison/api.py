"""POST /compare over HTTP: one comparison at a time, in a worker thread. It knows no measuring."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fastapi import APIRouter, Request, Response

from service.batching import Batcher
from service.body import parse_inputs, parse_json_object, read_body
from service.comparison.choose import choose
from service.comparison.compare import compare
from service.comparison.data import Data, held_out, sent
from service.comparison.exclusive import Exclusive
from service.comparison.measurement import Plan
from service.comparison.report import Report
from service.comparison.request import (
    DEFAULT_BATCH,
    DEFAULT_BLOCKS,
    DEFAULT_LIMIT,
    MOST_EXAMPLES,
    CompareRequest,
    read_request,
)
from service.errors import InputError
from service.library import Library
from service.model import Model
from service.settings import Settings

router = APIRouter(tags=["compare"])


@router.post(
    "/compare",
    summary="Compare models on the same examples",
    responses={200: {"model": Report}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": CompareRequest.model_json_schema()}},
        }
    },
)
async def post_compare(request: Request) -> Response:
    """What each model costs: quality, latency, throughput and size, and for each pair agreement, difference in accuracy
    and speed-up with their 95 % intervals. With the defaults, two models take about nine seconds; meanwhile another
    comparison gets 503."""
    raw, state = await read_body(request), request.app.state
    report = await asyncio.to_thread(_compare, raw, state.library, state.settings, state.batcher, state.comparing)
    return Response(report.model_dump_json(), media_type="application/json")


def _compare(raw: bytes, library: Library, settings: Settings, batcher: Batcher, comparing: Exclusive) -> Report:
    asked = read_request(parse_json_object(raw))
    # Held by the thread and not by the request: the measurement goes on where a client has gone.
    with comparing.held():
        plan, models = _plan(asked, settings, comparing.check), choose(library, asked.models)
        data, before = _data(asked, plan, models, library), batcher.runs
        report = compare(models, data, plan)
        return report.model_copy(update={"other_runs": batcher.runs - before})


def _plan(asked: CompareRequest, settings: Settings, check: Callable[[], None]) -> Plan:
    batch = asked.batch or min(DEFAULT_BATCH, settings.max_batch)
    if batch > settings.max_batch:
        raise InputError(f"batch: got {batch}, expected 1 to {settings.max_batch}, which is this service's max_batch")
    return Plan(batch, asked.blocks or DEFAULT_BLOCKS, asked.seed or 0, settings.max_batch, check)


def _data(asked: CompareRequest, plan: Plan, models: list[Model], library: Library) -> Data:
    if asked.inputs is None:
        return held_out(library, models, asked.limit or DEFAULT_LIMIT, plan.seed)
    manifest = models[0].manifest
    return sent(parse_inputs(asked.inputs, manifest, MOST_EXAMPLES), asked.labels, manifest.classes)
