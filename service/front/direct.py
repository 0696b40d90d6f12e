"""Answers the two hot routes in front of FastAPI, whose routing costs as much as a student's whole run.

A plain POST to /predict or to /v2/.../infer goes from the socket to the model and back without a task, a scope or a
response object of its own. Every other request, and whatever is unusual about one of these (a body in chunks or packed,
a form, `Expect`, one that is sent before the last was answered, a client that does not read) goes to FastAPI, where the
same two functions read it: both ways lead to one batcher and give the same answers. It knows HTTP and uvicorn's
protocol class, not what is in a body.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from time import perf_counter
from typing import Any

from starlette.datastructures import State

from service import log
from service.asked import JSON, Asked, SlowRequestError
from service.batching import Batcher
from service.body import Bodies
from service.errors import StillroomError
from service.front.connection import LimitedProtocol
from service.front.exchange import Ask, Exchange, Head, Headers, KnownHead, known_head
from service.front.keys import Keys
from service.jobs import Outcome
from service.library import Library
from service.predict import api as predict
from service.predict.numbers import Reader
from service.protocol import infer
from service.protocol.about import version_of
from service.refused import ENDING, INTERNAL, Refused, refused
from service.settings import Settings
from service.statistics import Statistics
from service.tracing import Tracing

logger = logging.getLogger("service")

LARGEST_BODY = 2**19
"""Bytes; what is larger is read in a thread, by FastAPI's route."""
NOT_TRACED: AbstractContextManager[None] = nullcontext()
UNUSUAL = frozenset({b"expect", b"transfer-encoding", b"content-encoding", b"upgrade"})


class DirectProtocol(LimitedProtocol):
    """Limited HTTP with the hot routes taken out. `state` is the app's, `reader` is for this process's event loop."""

    def __init__(self, *values: Any, state: State, reader: Reader, **named: Any) -> None:
        super().__init__(*values, most_connections=state.settings.max_connections, **named)
        self._library: Library = state.library
        self._settings: Settings = state.settings
        self._keys: Keys = state.keys
        self._batcher: Batcher = state.batcher
        self._statistics: Statistics = state.statistics
        self._tracing: Tracing | None = state.tracing
        self._reader = reader
        # A page of another origin gets its headers from FastAPI's middleware.
        self._unusual = UNUSUAL | {b"origin"} if state.settings.cors_origins else UNUSUAL
        self._largest_body = min(LARGEST_BODY, state.settings.max_body_bytes)
        self._bodies: Bodies = state.bodies
        self._held = 0
        """Bytes of the body that is coming in."""
        self._known: KnownHead | None = None
        """Of the last request that came in one piece."""

    def data_received(self, data: bytes) -> None:
        """As for any connection; a request whose head is known is not parsed again."""
        is_new = self.is_idle()
        body = self._known.body_in(data) if is_new and self._known is not None else None
        if self._known is not None and body is not None and not self.flow.write_paused:
            self.skip_parsing()
            self.cycle = exchange = Exchange(self._known.head)  # type: ignore[assignment]  # see Exchange
            exchange.parts.append(body)
            self.end()
            return
        before = self.cycle
        super().data_received(data)
        if is_new and self.cycle is not before and isinstance(self.cycle, Exchange):
            self._known = known_head(self.cycle.head, data)

    def begin(self) -> bool:
        """Takes the request, or leaves it to FastAPI."""
        exchange = self._exchange() if self.parser.get_method() == b"POST" else None
        if exchange is not None:
            self.cycle = exchange  # type: ignore[assignment]  # see Exchange
        return exchange is not None

    def part(self, body: bytes) -> bool:
        """Keeps the body's parts. Whether the request is one of these. Raises BusyError where too much is kept."""
        if isinstance(self.cycle, Exchange):
            self._held += len(body)
            self._bodies.add(len(body))
            self.cycle.parts.append(body)
            return True
        return False

    def end(self) -> bool:
        """The body is whole: its rows are queued, or refused. Whether the request is one of these."""
        if isinstance(self.cycle, Exchange):
            self._let_go()
            self.cycle.more_body = False
            self._ask(self.cycle)
            return True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """As uvicorn's."""
        super().connection_lost(exc)
        self._let_go()
        if isinstance(self.cycle, Exchange):
            self.cycle = None  # type: ignore[assignment]  # as it was before the first request

    def _let_go(self) -> None:
        """Of a body that is whole only a run's queue is a limit, which counts rows."""
        self._bodies.held -= self._held
        self._held = 0

    def give_up(self) -> None:
        """Answers a request of these that is not answered yet: the time to end is over."""
        if isinstance(self.cycle, Exchange) and not (self.cycle.response_complete or self.cycle.more_body):
            exchange = self.cycle
            if exchange.job is not None:
                exchange.job.given_up = True
            self._refuse_with(exchange, ENDING)

    def turn_away(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> bool:
        """As for any connection, with an id; and counts and logs it where it is said."""
        identity = log.identify(None)
        is_said = super().turn_away(status, text, {log.REQUEST_ID: identity, **(headers or {})})
        if is_said:
            self._statistics.requested("other", "other", status)
            log.answered("other", "other", status, 0.0, identity)
        return is_said

    def _exchange(self) -> Exchange | None:
        if not self.is_answered() or self.flow.write_paused or self.parser.get_http_version() != "1.1":
            return None
        headers = dict(self.headers)
        if len(headers) != len(self.headers) or not self._unusual.isdisjoint(headers):
            return None
        length = headers.get(b"content-length", b"")
        if not length.isdigit() or int(length) > self._largest_body:
            return None
        found = self._route(headers)
        if found is None or not self._may_ask(headers):
            return None
        route, ask = found
        return Exchange(Head(route, self.url, ask, headers, int(length), self.parser.should_keep_alive()))

    def _may_ask(self, headers: Headers) -> bool:
        """Whether its key is one for this; FastAPI's gate has the words where it is not, before there is a body."""
        given = headers.get(b"authorization")
        try:
            if len(self._keys):
                self._keys.check(None if given is None else given.decode("latin-1"), "predict")
        except StillroomError:
            return False
        return True

    def _route(self, headers: Headers) -> tuple[str, Ask] | None:
        if self.url == b"/predict":
            is_form = headers.get(b"content-type", b"").lower().startswith(b"multipart/")
            return None if is_form else ("/predict", self._predict)
        match self.url.split(b"/"):
            case [b"", b"v2", b"models", name, b"infer"] if _is_plain(name):
                return "/v2/models/{name}/infer", partial(self._infer, name.decode(), None)
            case [b"", b"v2", b"models", name, b"versions", version, b"infer"] if _is_plain(name, version):
                route = "/v2/models/{name}/versions/{version}/infer"
                return route, partial(self._infer, name.decode(), version.decode())
        return None

    def _predict(self, raw: bytes, headers: Headers, started: float, is_inline: bool) -> Asked:
        return predict.ask(raw, self._library, self._settings, started, self._reader)

    def _infer(
        self, name: str, version: str | None, raw: bytes, headers: Headers, started: float, is_inline: bool
    ) -> Asked:
        model = version_of(self._library, name, version)
        length, accepts = headers.get(infer.JSON_LENGTH.lower().encode()), headers.get(b"accept-encoding", b"")
        json_length = None if length is None else length.decode("latin-1")
        return infer.ask(raw, json_length, accepts.decode("latin-1"), model, self._settings, is_inline=is_inline)

    def _ask(self, exchange: Exchange) -> None:
        try:
            with self._traced(exchange):
                self._submit(exchange, exchange.ask(is_inline=True))
        except SlowRequestError:
            asking = self.loop.run_in_executor(None, partial(exchange.ask, is_inline=False))
            asking.add_done_callback(partial(self._asked, exchange))
        except Exception as error:
            self._fail(exchange, error)

    def _asked(self, exchange: Exchange, asking: asyncio.Future[Asked]) -> None:
        if exchange.disconnected or exchange.response_complete:
            return
        try:
            with self._traced(exchange):
                self._submit(exchange, asking.result())
        except Exception as error:
            self._fail(exchange, error)

    def _submit(self, exchange: Exchange, asked: Asked) -> None:
        exchange.job = self._batcher.submit(asked.model, asked.inputs, partial(self._done, exchange, asked))

    def _traced(self, exchange: Exchange) -> AbstractContextManager[Any]:
        if self._tracing is None:
            return NOT_TRACED
        exchange.span = exchange.span or self._tracing.begin(
            {name.decode("latin-1"): v.decode("latin-1") for name, v in exchange.head.headers.items()}
        )
        return self._tracing.within(exchange.span)

    def _done(self, exchange: Exchange, asked: Asked, outcome: Outcome) -> None:
        if isinstance(outcome, StillroomError):
            self._fail(exchange, outcome)
            return
        try:
            reply = asked.write(outcome)
        except Exception as error:
            self._fail(exchange, error)
        else:
            self._write(exchange, 200, reply.body, reply.media_type, reply.headers)

    def _fail(self, exchange: Exchange, error: Exception) -> None:
        token = log.request_id.set(exchange.id)
        if isinstance(error, StillroomError):
            refusal = refused(error, "POST", exchange.head.path.decode())
        else:
            logger.error("POST %s failed", exchange.head.route, exc_info=error)
            refusal = INTERNAL
        log.request_id.reset(token)
        self._refuse_with(exchange, refusal)

    def _refuse_with(self, exchange: Exchange, refusal: Refused) -> None:
        self._write(exchange, refusal.status, refusal.body, JSON, refusal.headers)

    def _write(self, exchange: Exchange, status: int, body: bytes, kind: str, headers: Mapping[str, str]) -> None:
        exchange.complete()
        self._statistics.requested("POST", exchange.head.route, status)
        if self._tracing is not None and exchange.span is not None:
            self._tracing.end(exchange.span, "POST", exchange.head.route, status, {"stillroom.request_id": exchange.id})
        if log.access.isEnabledFor(logging.INFO):
            log.answered("POST", exchange.head.path.decode(), status, perf_counter() - exchange.started, exchange.id)
        if self.transport.is_closing():
            return
        described = {"content-type": kind, log.REQUEST_ID: exchange.id, **headers}
        self.write_answer(status, body, described, close=not exchange.keep_alive)
        if not exchange.keep_alive:
            self.transport.close()
        self.on_response_complete()


def _is_plain(*names: bytes) -> bool:
    """Whether parts of the path stand for themselves: nothing in them is escaped, and no query follows."""
    return all(name and name.isascii() and not any(sign in name for sign in b"%?#\\") for name in names)
