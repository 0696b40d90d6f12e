"""POST /v2/models/{name}/infer: from the bytes of a request to the bytes of its answer, by the path of /predict.

How a request is read and an answer is written is request.py's and answer.py's.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from service.answers import Answer
from service.asked import JSON, Asked, Reply, SlowRequestError
from service.body import LARGE_BODY, read_body
from service.encoding import WORTH_BYTES, accepted, compressed
from service.front.answering import answer
from service.model import Model
from service.protocol.about import VERSION, Version, model_of
from service.protocol.answer import render
from service.protocol.described import OUTPUTS
from service.protocol.request import Limits, parse
from service.settings import Settings

router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])

BINARY = "application/octet-stream"
JSON_LENGTH = "Inference-Header-Content-Length"


class RequestInput(BaseModel):
    """The rows: `data` in JSON, or `parameters.binary_data_size` bytes behind the JSON."""

    name: str = Field(description="'input'")
    shape: list[int] = Field(description="[N, ...]")
    datatype: str = Field(description="BOOL, INT*, UINT*, FP16, FP32, FP64; BYTES holds pictures")
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class RequestOutput(BaseModel):
    """An output that is asked for."""

    name: str = Field(description=" or ".join(OUTPUTS))
    parameters: dict[str, Any] | None = Field(default=None, description="binary_data, classification")


class InferenceRequest(BaseModel):
    """A request; further fields are left alone."""

    model_config = ConfigDict(extra="allow")

    id: str | None = None
    parameters: dict[str, Any] | None = Field(default=None, description="binary_data_output")
    inputs: list[RequestInput]
    outputs: list[RequestOutput] | None = None


class ResponseOutput(BaseModel):
    """`data`, flat, or `parameters.binary_data_size` bytes behind the JSON."""

    name: str
    datatype: str = Field(description="FP32, or BYTES of classes: value:index:label")
    shape: list[int]
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class InferenceResponse(BaseModel):
    """The answer; the request's id, where it had one."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[ResponseOutput]


ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "model": InferenceResponse,
        "content": {BINARY: {"schema": {"type": "string", "format": "binary"}}},
        "headers": {
            JSON_LENGTH: {"schema": {"type": "string"}, "description": "of a binary answer: bytes of its JSON"},
            "Content-Encoding": {"schema": {"type": "string"}, "description": "gzip or deflate, where it was accepted"},
        },
    }
}
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": InferenceRequest.model_json_schema()},
            BINARY: {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


@router.post("/models/{name}/infer", summary="Ask a model", responses=ANSWER, openapi_extra=BODY)
@router.post(
    "/models/{name}/versions/{version}/infer", summary="Ask a version", responses=ANSWER, openapi_extra=BODY | VERSION
)
async def infer(request: Request, name: str, version: Version) -> Response:
    """JSON, or JSON and the tensors' bytes behind it.

    The header Inference-Header-Content-Length then is the length of the JSON; of 0 it says that there is none.
    """
    settings: Settings = request.app.state.settings
    raw = await read_body(request)
    headers = request.headers
    read = partial(
        ask,
        raw,
        headers.get(JSON_LENGTH),
        headers.get("accept-encoding", ""),
        model_of(request, name, version),
        settings,
    )
    try:
        asked = read(is_inline=True) if len(raw) < LARGE_BODY else await asyncio.to_thread(read)
    except SlowRequestError:
        asked = await asyncio.to_thread(read)
    return await answer(request, asked)


def ask(
    raw: bytes, json_length: str | None, accepts: str, model: Model, settings: Settings, *, is_inline: bool = False
) -> Asked:
    """What a body asks of a model; `json_length` and `accepts` are its headers Inference-Header-Content-Length and
    Accept-Encoding. Raises as `parse`."""
    limits = Limits(model.manifest.input.rows_of(settings.max_batch), settings.max_image_pixels, is_inline)
    asked = parse(raw, json_length, model.manifest, limits)

    def write(found: Answer) -> Reply:
        body, answer_json_length = render(model.manifest, found.prediction, asked.outputs, asked.id)
        headers = {} if answer_json_length is None else {JSON_LENGTH: str(answer_json_length)}
        coding = accepted(accepts) if len(body) > WORTH_BYTES else None
        if coding is not None:
            body, headers["Content-Encoding"] = compressed(body, coding), coding
        return Reply(body, JSON if answer_json_length is None else BINARY, headers)

    return Asked(model, asked.inputs, write)
