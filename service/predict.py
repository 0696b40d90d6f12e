"""POST /predict: from the bytes of a request to the bytes of its answer.

It knows the fields of a request and the shape of an answer. It does not know how models are found, run or batched.
The body does not go through FastAPI's own parsing, which turns NaN and 1e999 into a 500; the pydantic models below
document the fields and check them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from functools import lru_cache, partial
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import orjson
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from service import measures
from service.batching import Answer, Batcher
from service.body import LARGE_BODY, check_fields, parse_inputs, parse_json_object, read_body
from service.errors import InputError, MalformedError
from service.health import Metrics
from service.held_out import read_held_out
from service.inputs.images import read_image
from service.library import Library
from service.manifest import Manifest
from service.model import Model
from service.settings import Settings

router = APIRouter(tags=["predict"])

DEFAULT_TOP_K = 3


class Options(BaseModel):
    """What a request may choose; null means the default."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    model: str | None = Field(default=None, description="name of a model; by default the newest student")
    version: Annotated[int, Field(ge=1)] | None = Field(default=None, description="by default the newest")
    temperature: Annotated[float, Field(gt=0.0)] | None = Field(
        default=None, description="softmax(logits / T); by default 1"
    )
    top_k: Annotated[int, Field(ge=1)] | None = Field(default=None, description="best classes per row; by default 3")


class PredictRequest(Options):
    """JSON."""

    inputs: Annotated[Any, WithJsonSchema({"type": "array", "items": {"type": "array", "items": {}}})] = Field(
        description="rows in raw units, each nested or flat to the model's shape"
    )


class PredictForm(Options):
    """multipart/form-data, for models that take images."""

    image: Annotated[Any, WithJsonSchema({"type": "string", "format": "binary"})] = Field(description="PNG or JPEG")
    invert: bool | None = Field(default=None, description="true where the picture is dark on bright")


class Candidate(BaseModel):
    """A class and its probability."""

    label: str
    probability: float


class Timings(BaseModel):
    """Milliseconds: waiting for the model, in the model, and from the first byte read to the answer."""

    queue: float
    compute: float
    total: float


class PredictAnswer(BaseModel):
    """The model and version that ran, and for each row its label, its K probabilities and its best classes."""

    model: str
    version: int
    labels: list[str]
    probabilities: list[list[float]]
    top_k: list[list[Candidate]]
    timings_ms: Timings


@router.post(
    "/predict",
    summary="Classify rows or a picture",
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
    """Rows as JSON, or one PNG or JPEG as a form (`curl -F image=@digit.png`)."""
    started = perf_counter()
    library: Library = request.app.state.library
    settings: Settings = request.app.state.settings
    batcher: Batcher = request.app.state.batcher
    metrics: Metrics = request.app.state.metrics
    options: Options
    if request.headers.get("content-type", "").lower().startswith("multipart/"):
        options = form = check_fields(await _read_form(request, settings.max_body_bytes), PredictForm)
        model = library.get(options.model, options.version)
        inputs = await asyncio.to_thread(
            read_image, form.image, model.manifest, invert=bool(form.invert), max_pixels=settings.max_image_pixels
        )
    else:
        raw = await read_body(request)
        read = partial(_read_rows, raw, library, settings.max_batch)
        options, model, inputs = await asyncio.to_thread(read) if len(raw) >= LARGE_BODY else read()
    top_k = _top_k(options.top_k, model.manifest)
    answer = await batcher.predict(model, inputs)
    metrics.predicted(model, len(inputs), answer.queue_s, answer.compute_s)
    return Response(_render(model, answer, options.temperature or 1.0, top_k, started), media_type="application/json")


def _read_rows(raw: bytes, library: Library, max_rows: int) -> tuple[Options, Model, NDArray[np.float32]]:
    rows = check_fields(parse_json_object(raw), PredictRequest)
    model = library.get(rows.model, rows.version)
    return rows, model, parse_inputs(rows.inputs, model.manifest, max_rows)


async def _read_form(request: Request, max_bytes: int) -> dict[str, Any]:
    """The fields of a form: the file as bytes, numbers and booleans as such, empty fields left out."""
    raw = await read_body(request)  # whole, before a part of it is a file to be closed

    async def stream() -> AsyncGenerator[bytes, None]:
        yield raw

    parser = MultiPartParser(request.headers, stream(), max_files=1, max_fields=16)
    parser.spool_max_size = max_bytes  # in memory: there may be no folder to write to
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise MalformedError(f"the form cannot be read: {error.message}") from error
    try:
        fields = {key: await _field(key, value) for key, value in form.multi_items()}
    finally:
        await form.close()
    return {key: value for key, value in fields.items() if value != ""}


async def _field(key: str, value: str | UploadFile) -> Any:
    if isinstance(value, UploadFile) != (key == "image"):
        expected = "a file (curl -F image=@digit.png)" if key == "image" else "a plain value, not a file"
        raise InputError(f"{key}: expected {expected}")
    if isinstance(value, UploadFile):
        return await value.read()
    return value if key == "model" else _value(value)


def _value(text: str) -> Any:
    """A number or boolean that came as text; anything else stays text, for the check to refuse."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _top_k(asked: int | None, manifest: Manifest) -> int:
    classes = len(manifest.classes)
    if asked is not None and asked > classes:
        raise InputError(f"top_k: got {asked}, expected 1 to {classes}, the classes of {manifest.name}")
    return asked or min(DEFAULT_TOP_K, classes)


def _render(model: Model, answer: Answer, temperature: float, top_k: int, started: float) -> bytes:
    logits = answer.prediction.logits_BK.astype(np.float64)
    with np.errstate(over="ignore"):  # a tiny temperature: what is not the maximum gets probability 0
        log_p = measures.log_softmax(logits - logits.max(axis=1, keepdims=True), temperature)
    probabilities, classes = np.exp(log_p), model.manifest.classes
    best = np.argsort(-logits, axis=1, kind="stable")[:, :top_k]  # whatever T rounds away, the order stays
    candidates = [
        [{"label": classes[k], "probability": row[k]} for k in order]
        for row, order in zip(probabilities.tolist(), best.tolist(), strict=True)
    ]
    seconds = {"queue": answer.queue_s, "compute": answer.compute_s, "total": perf_counter() - started}
    return orjson.dumps(
        {
            "model": model.manifest.name,
            "version": model.manifest.version,
            "labels": [row[0]["label"] for row in candidates],
            "probabilities": probabilities,
            "top_k": candidates,
            "timings_ms": {name: round(1000 * value, 4) for name, value in seconds.items()},
        },
        option=orjson.OPT_SERIALIZE_NUMPY,
    )


@lru_cache(maxsize=1)
def example(library: Library, model: Model) -> dict[str, Any]:
    """A request that can be sent as it stands: the first held-out input of a model, flat and compact."""
    numbers = read_held_out(library.directory, model.manifest).inputs[0].ravel().tolist()
    row = [int(number) if number.is_integer() else number for number in numbers]
    return {"model": model.manifest.name, "inputs": [row], "temperature": 1.0, "top_k": _top_k(None, model.manifest)}
