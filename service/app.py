"""The whole wiring of the service on one page: what is made, where it is mounted, how errors are answered."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from service import catalogue, health
from service.asked import JSON
from service.batching import Batcher
from service.body import Bodies, BodyLimit, in_words
from service.comparison import api as comparison
from service.comparison.exclusive import Exclusive
from service.comparison.runner import Runner
from service.comparison.store import Store, place_of_store
from service.errors import BusyError, InputError, StillroomError, UnknownKeyError
from service.front.gate import Gate
from service.front.keys import read_keys
from service.health import Metrics
from service.library import Library
from service.log import REQUEST_ID
from service.machine import usable_cpus
from service.predict import api as predict
from service.protocol import about, infer, repository
from service.protocol.infer import JSON_LENGTH
from service.refused import refused
from service.settings import Settings
from service.statistics import Statistics
from service.tracing import Tracing

log = logging.getLogger("service")

PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class Problem(BaseModel):
    """Every error: what was given, what was expected, what is available."""

    error: str


def create_app(settings: Settings) -> FastAPI:
    """The service over one model repository; its lifespan loads the models, in the background, and keeps looking."""
    app = _Service(
        title="Stillroom",
        summary="Big models and their small students, side by side",
        lifespan=_lifespan,
        redoc_url=None,
        redirect_slashes=False,  # the redirection has no words, and believes the Host of the request
    )
    app.state.settings = settings
    app.state.tracing = None
    app.state.bodies = Bodies(settings.max_body_bytes)
    app.state.keys = read_keys(settings.api_keys, settings.api_keys_file)
    app.state.statistics = Statistics()
    app.state.batcher = Batcher(
        settings.max_batch, app.state.statistics, max_queue=settings.max_queue, timeout_s=settings.timeout_s
    )
    app.state.library = Library(
        settings.models_dir,
        device=settings.device,
        threads=settings.threads_each,
        spin=settings.threads_each * settings.workers <= usable_cpus(),
        reload_s=settings.reload_s,
    )
    app.state.library.when_ready(lambda: _announce(settings))
    app.state.comparing = Exclusive(settings.state_dir and settings.state_dir / "comparisons.lock")
    app.state.comparisons = Store(place_of_store(settings.state_dir, settings.workers))
    app.state.runner = Runner(app.state.comparisons, app.state.comparing, app.state.statistics.runs, _address(app))
    app.state.metrics = Metrics(app.state.statistics, app.state.library)
    problems: dict[int | str, dict[str, Any]] = {
        status: {"model": Problem} for status in (400, 401, 403, 404, 408, 413, 415, 422, 431, 500, 503, 504)
    }
    for room in (predict, infer, about, repository, comparison, catalogue, health):
        app.include_router(room.router, responses=problems)
    page = _Page(directory=Path(__file__).parent / "page")
    app.mount("/page", page)
    app.add_api_route("/", page.index, methods=["GET", "HEAD"], include_in_schema=False)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes, bodies=app.state.bodies)
    app.add_middleware(Gate, state=app.state)
    if settings.cors_origins:  # outside the gate: a browser asks without a key whether it may ask
        origins = settings.cors_origins.split()
        shown = [REQUEST_ID, JSON_LENGTH, "Retry-After", "Location"]
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=shown,
        )
    app.add_exception_handler(StillroomError, _refuse)
    app.add_exception_handler(HTTPException, _refuse_page)
    app.add_exception_handler(RequestValidationError, _refuse_query)
    app.add_exception_handler(sqlite3.Error, _refuse_store)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    state = app.state
    state.library.start()
    if state.settings.traces:  # in the process that serves: it has a thread
        state.tracing = state.batcher.tracing = Tracing()
    state.runner.kick()  # what an earlier life of the service left
    yield
    state.runner.stop()
    state.comparisons.close()
    if state.tracing is not None:
        state.tracing.stop()
    await asyncio.to_thread(state.library.stop)  # what it is loading it loads to its end


def _announce(settings: Settings) -> None:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    log.info("ready: the page is http://%s:%d/, the reference http://%s:%d/docs", *(host, settings.port) * 2)


def _address(app: FastAPI) -> dict[str, str | None]:
    """Where a comparison asks this very service, and the key that lets it, which nobody else ever sees."""
    settings: Settings = app.state.settings
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104  # any is this one too
    url = f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"
    return {"url": url, "key": app.state.keys.draw("comparison", "predict") if len(app.state.keys) else None}


class _Service(FastAPI):
    """Documents keys, which may or may not be asked for, and /predict with an example that works as it stands."""

    def openapi(self) -> dict[str, Any]:
        schema = super().openapi()
        schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        schema["security"] = [{"key": []}, {}]
        content = schema["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
        try:
            if len(self.state.keys):  # the reference is open, the examples are not
                raise UnknownKeyError
            content["example"] = predict.example(self.state.library, self.state.library.get())
        except StillroomError:  # no model yet, or none with held-out examples: the reference goes without
            content.pop("example", None)
        return schema


class _Page(StaticFiles):
    """The files of the page, with its headers."""

    def file_response(self, *values: Any, **named: Any) -> Response:
        response = super().file_response(*values, **named)
        response.headers.update(PAGE_HEADERS)
        return response

    async def index(self, request: Request) -> Response:
        return await self.get_response("index.html", request.scope)


async def _refuse(request: Request, error: Exception) -> Response:
    """Ours."""
    assert isinstance(error, StillroomError)
    answer = refused(error, request.method, request.url.path)
    return Response(answer.body, answer.status, answer.headers, JSON)


async def _refuse_page(request: Request, error: Exception) -> Response:
    """Starlette's: no such page, or not with that method."""
    assert isinstance(error, HTTPException)
    path = request.url.path
    text = f"{path}: {error.detail}"
    if error.status_code == 404:
        text = f"no page at {path}; see /docs"
    elif error.status_code == 405:
        text = f"{path} does not take {request.method}; it takes {(error.headers or {}).get('Allow', 'other methods')}"
    return JSONResponse({"error": text}, error.status_code, error.headers)


async def _refuse_query(request: Request, error: Exception) -> Response:
    """FastAPI's: a query parameter is of the wrong type or out of range."""
    assert isinstance(error, RequestValidationError)
    text = "; ".join(in_words(problem, problem["loc"][1:]) for problem in error.errors())
    return JSONResponse({"error": text}, InputError.status)


async def _refuse_store(request: Request, error: Exception) -> Response:
    """SQLite's: the comparisons cannot be read or written, as where the disk is full."""
    log.error("the comparisons cannot be kept: %s", error)
    return await _refuse(request, BusyError("the comparisons cannot be kept now; the log has the reason", 5))
