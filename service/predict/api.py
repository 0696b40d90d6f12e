"""POST /predict: rows, a picture or a recording for one model, as JSON or as a form.

How a request is read and an answer is written is request.py's and answer.py's. It does not know how models are found,
run or batched.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache, partial
from time import perf_counter
from typing import Any

from fastapi import APIRouter, Request, Response

from service.answers import Answer
from service.asked import Asked, Reply
from service.body import LARGE_BODY, read_body
from service.front.answering import answer
from service.held_out import read_held_out
from service.library import Library
from service.model import Model
from service.predict.answer import PredictAnswer, render
from service.predict.numbers import Reader
from service.predict.request import PredictForm, PredictRequest, Rows, check_top_k, read_form, read_json
from service.settings import Settings

router = APIRouter(tags=["predict"])


@router.post(
    "/predict",
    summary="Classify rows, a picture or a recording",
    responses={200: {"model": PredictAnswer}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": PredictRequest.model_json_schema()},
                "multipart/form-data": {"schema": PredictForm.model_json_schema()},
            },
        }
    },
)
async def predict(request: Request) -> Response:
    """Rows as JSON, or as a form one PNG or JPEG (`curl -F image=@digit.png`), or one WAV or FLAC where the model hears
    recordings (`curl -F audio=@word.wav`)."""
    started = perf_counter()
    settings: Settings = request.app.state.settings
    if request.headers.get("content-type", "").lower().startswith("multipart/"):
        asked = _asked(await read_form(request, settings.max_body_bytes, settings.max_image_pixels), started)
    else:
        raw = await read_body(request)
        read = partial(ask, raw, request.app.state.library, settings, started)
        asked = await asyncio.to_thread(read) if len(raw) >= LARGE_BODY else read()
    return await answer(request, asked)


def ask(raw: bytes, library: Library, settings: Settings, started: float, reader: Reader | None = None) -> Asked:
    """What a body of JSON asks for; `started` is when it began to be read. Raises as `read_json`."""
    return _asked(read_json(raw, library, settings.max_batch, reader), started)


def _asked(rows: Rows, started: float) -> Asked:
    options, manifest = rows.options, rows.model.manifest
    temperature, top_k = options.temperature or 1.0, check_top_k(options.top_k, manifest)

    def write(found: Answer) -> Reply:
        return Reply(render(manifest, found, temperature, top_k, started))

    return Asked(rows.model, rows.inputs, write)


@lru_cache(maxsize=1)
def example(library: Library, model: Model) -> dict[str, Any]:
    """A request that can be sent as it stands: the first held-out input of a model, flat and compact."""
    numbers = read_held_out(library.directory, model.manifest).inputs[0].ravel().tolist()
    row = [int(number) if number.is_integer() else number for number in numbers]
    return {
        "model": model.manifest.name,
        "inputs": [row],
        "temperature": 1.0,
        "top_k": check_top_k(None, model.manifest),
    }
