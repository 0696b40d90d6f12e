"""/compare over HTTP: short comparisons are answered at once, long ones become jobs. It knows no measuring."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from time import perf_counter
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import ValidationError

from service.asked import JSON
from service.body import parse_json_object, read_body
from service.comparison.exclusive import Exclusive
from service.comparison.jobs import JobDocument, Jobs, document
from service.comparison.render import POLICY, html, markdown
from service.comparison.request import CompareRequest, read_request
from service.comparison.schema.report import Report
from service.comparison.start import start
from service.comparison.store import Job, Store
from service.errors import NotFoundError, StillroomError

router = APIRouter(tags=["compare"])

AT_ONCE_S = 60.0
"""A comparison is waited for up to so long, where nothing else waits."""
POLL_S = 0.1
EVENT_S = 0.25
BEAT_S = 15.0
"""Between two signs of life to whoever listens."""

Identity = Annotated[str, Path(alias="id", description="of the comparison")]


@router.post(
    "/compare",
    summary="Compare models on the same examples",
    responses={200: {"model": Report}, 202: {"model": JobDocument, "description": "It goes on as a job"}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": CompareRequest.model_json_schema()}},
        }
    },
)
async def post_compare(
    request: Request,
    prefer: Annotated[str, Header(description="respond-async: answer 202 at once (RFC 7240)")] = "",
) -> Response:
    """What each model costs: quality, latency, throughput, size and price, and for each pair the paired table, the
    verdict against the margin, agreement and speed-ups with their 95 % intervals. A comparison that takes up to a
    minute is answered with its report; a longer one, or one that has to wait for another, with 202 and a job: at once
    where that is known beforehand, else after a minute."""
    raw, state = await read_body(request), request.app.state
    job, seconds = await asyncio.to_thread(_add, raw, state)
    if seconds <= AT_ONCE_S and state.comparisons.is_first(job.id) and "respond-async" not in prefer.lower():
        job = await _waited_for(job, state.comparisons, state.comparing)
        if not job.is_active:
            return _report_of(job, state.comparisons)
        seconds = job.progress["total"] - job.progress["done"] if job.progress else seconds
    headers = {"Location": f"/compare/{job.id}", "Retry-After": str(max(1, round(seconds)))}
    return Response(document(job).model_dump_json(), 202, headers, JSON)


def _add(raw: bytes, state: Any) -> tuple[Job, float]:
    found = start(read_request(parse_json_object(raw)), state.library, state.settings)
    job = state.comparisons.add(found.models, found.task.to_bytes())
    state.runner.kick()
    return job, found.seconds


async def _waited_for(job: Job, store: Store, exclusive: Exclusive) -> Job:
    """The comparison at its end, or after AT_ONCE_S. It goes on where a client has gone: its report is kept."""
    patience_ends = perf_counter() + AT_ONCE_S
    while (job := store.job(job.id)).is_active and perf_counter() < patience_ends:
        exclusive.check()
        await asyncio.sleep(POLL_S)
    return job


def _report_of(job: Job, store: Store) -> Response:
    """Of a comparison that has ended."""
    if job.error is not None:
        raise _FailedError(job)
    return Response(store.report(job.id), headers={"Location": f"/compare/{job.id}"}, media_type=JSON)


class _FailedError(StillroomError):
    """A comparison that has no report, with the status that says why."""

    def __init__(self, job: Job) -> None:
        super().__init__(job.error)
        self.status = job.status or self.status


@router.get("/compare", summary="The comparisons that are kept")
async def get_comparisons(request: Request) -> Jobs:
    """Newest first, each without its report."""
    return Jobs(comparisons=[document(job) for job in request.app.state.comparisons.jobs()])


@router.get("/compare/{id}", summary="One comparison", responses={200: {"model": JobDocument}}, response_class=Response)
async def get_comparison(request: Request, identity: Identity) -> Response:
    """How far it is, and its report once it is done."""
    store: Store = request.app.state.comparisons
    told = document(store.job(identity)).model_dump_json(exclude={"report"})
    # As it was kept: a report of many classes is large, and an older one may lack what is newer.
    return Response(f'{told[:-1]},"report":{store.report(identity) or "null"}}}', media_type=JSON)


@router.delete("/compare/{id}", summary="Cancel or forget a comparison")
async def delete_comparison(request: Request, identity: Identity) -> JobDocument:
    """Cancels one that waits or runs, forgets one that has ended; answers with how it stood."""
    return document(request.app.state.comparisons.remove(identity))


@router.get(
    "/compare/{id}/events",
    summary="Follow a comparison",
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Server-sent events"}},
)
async def get_events(request: Request, identity: Identity) -> Response:
    """Server-sent events: `progress`, whenever there is some, and a last `end`; each with the comparison, without its
    report, as data."""
    store: Store = request.app.state.comparisons
    store.job(identity)
    return StreamingResponse(
        _events(identity, store, request.app.state.comparing),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _events(identity: str, store: Store, exclusive: Exclusive) -> AsyncIterator[str]:
    told, beat = None, perf_counter()
    try:
        while (job := store.job(identity)).is_active and not exclusive.is_ending:
            if job != told:
                told, beat = job, perf_counter()
                yield _event("progress", job)
            elif perf_counter() - beat > BEAT_S:
                beat = perf_counter()
                yield ": it goes on\n\n"
            await asyncio.sleep(EVENT_S)
    except NotFoundError:  # it was forgotten meanwhile
        return
    yield _event("end", job)


def _event(kind: str, job: Job) -> str:
    return f"event: {kind}\ndata: {document(job).model_dump_json(exclude={'report'})}\n\n"


@router.get("/compare/{id}/report.{kind}", summary="A report as HTML, Markdown or JSON", response_class=Response)
async def get_report(request: Request, identity: Identity, kind: str) -> Response:
    """A self-contained page, Markdown, or the JSON that POST /compare answers with."""
    if kind not in WRITERS:
        raise NotFoundError(f"no report.{kind[:20]}; there are {', '.join(f'report.{name}' for name in WRITERS)}")
    media_type, write = WRITERS[kind]
    raw = _finished(request, identity)
    headers = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
    return Response(await asyncio.to_thread(write, raw), headers=headers, media_type=media_type)


@router.get(
    "/compare/{id}/samples.npz",
    summary="The raw latencies",
    response_class=Response,
    responses={200: {"content": {"application/zip": {}}, "description": "Seconds, an array for each block"}},
)
async def get_samples(request: Request, identity: Identity) -> Response:
    """Seconds of every call that counts, float32, an array for each model, scenario and block."""
    _finished(request, identity)
    return Response(request.app.state.comparisons.samples(identity), media_type="application/zip")


def _read(raw: str) -> Report:
    try:
        return Report.model_validate_json(raw)
    except ValidationError as error:
        raise NotFoundError(
            "another version of the service made this report, which has other fields: its report.json is there"
        ) from error


WRITERS: Mapping[str, tuple[str, Callable[[str], str]]] = {
    "json": (JSON, str),
    "html": ("text/html", lambda raw: html(_read(raw))),
    "md": ("text/markdown", lambda raw: markdown(_read(raw))),
}


def _finished(request: Request, identity: str) -> str:
    store: Store = request.app.state.comparisons
    job = store.job(identity)
    report = store.report(identity)
    if report is None:
        raise NotFoundError(f"the comparison {identity} has no report: it is {job.state}")
    return report
