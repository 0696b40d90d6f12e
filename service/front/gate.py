"""ASGI middleware in front of everything that FastAPI serves: a request gets its id, shows its key, is answered in
words whatever happens, and is counted.

The hot routes in front of FastAPI do the same (direct.py). It does not know what requests mean.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import nullcontext
from time import perf_counter

from starlette.datastructures import Headers, MutableHeaders, State
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import log
from service.asked import JSON
from service.errors import NotFoundError, StillroomError
from service.front.keys import is_open, scope_of
from service.refused import ENDING, INTERNAL, Refused, refused
from service.tracing import Tracing

logger = logging.getLogger("service")

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Gate:
    """Counts requests by the template of their route, never by a path that a client made up.

    What is no route of the API counts as `other`: the page's files, the reference, unknown pages, refused bodies.
    """

    def __init__(self, app: ASGIApp, state: State) -> None:
        self.app = app
        self.state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands over, and counts when the answer is out."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, headers = perf_counter(), Headers(scope=scope)
        identity = log.identify(headers.get(log.REQUEST_ID, "").encode("latin-1"))
        log.request_id.set(identity)
        tracing: Tracing | None = self.state.tracing
        span = tracing.begin(headers) if tracing is not None else None
        status = 0  # as long as no answer has started

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[log.REQUEST_ID] = identity
            await send(message)

        try:
            with tracing.within(span) if tracing is not None and span is not None else nullcontext():
                await (self._refusal(scope, headers) or self.app)(scope, receive, watched)
        except asyncio.CancelledError:  # uvicorn's, when the time to end is over
            if status:
                raise
            await _as_response(ENDING)(scope, receive, watched)
        except Exception:
            if status:
                raise
            logger.exception("%s %s failed", scope["method"], scope["path"])
            await _as_response(INTERNAL)(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in METHODS else "other"
            self.state.statistics.requested(method, route, status or 500)
            if tracing is not None and span is not None:
                tracing.end(span, method, route, status or 500, {"stillroom.request_id": identity})
            log.answered(method, scope["path"], status or 500, perf_counter() - started, identity)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        method, path = scope["method"], scope["path"]
        if is_open(path):
            return None
        try:
            if not path.isprintable():  # the router takes a line break at the end for none
                raise NotFoundError(f"no page at {path!r}; see /docs")
            self.state.keys.check(headers.get("authorization"), scope_of(method, path))
        except StillroomError as error:
            return _as_response(refused(error, method, path))
        return None


def _as_response(answer: Refused) -> Response:
    return Response(answer.body, answer.status, answer.headers, JSON)
