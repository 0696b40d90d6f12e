"""From the bytes of a request to /predict to the rows of a model: its fields, in JSON or in a form.

It knows the fields and says what is wrong with them. It does not know routes, or models that run. The body does not go
through FastAPI's own parsing, which turns NaN and 1e999 into a 500; the pydantic models below document the fields and
check them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import orjson
from fastapi import Request
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from service.body import check_fields, parse_inputs, parse_json_object, read_body
from service.errors import InputError, MalformedError
from service.inputs.images import read_image
from service.inputs.recordings import read_recording
from service.library import Library
from service.manifest import Manifest
from service.model import Model
from service.predict.numbers import Plain, Reader

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

    inputs: Annotated[
        Any, WithJsonSchema({"type": "array", "minItems": 1, "items": {"type": "array", "items": {}}})
    ] = Field(description="rows in raw units, each nested or flat to the model's shape")


File = Annotated[Any, WithJsonSchema({"type": "string", "format": "binary"})]
FILES = {"image": "digit.png", "audio": "word.wav"}
"""The fields of a form that are files, of which it has one, and how one may be called."""


class PredictForm(Options):
    """multipart/form-data, for models that take images, or recordings."""

    model: str | None = Field(
        default=None, description="name of a model; by default the newest student that takes such a file"
    )
    image: File = Field(default=None, description="PNG or JPEG")
    invert: bool | None = Field(default=None, description="true where the picture is dark on bright")
    audio: File = Field(default=None, description="WAV or FLAC")


class Rows(NamedTuple):
    """What was asked: the options, the model that they name, and its rows float32 [N, ...]."""

    options: Options
    model: Model
    inputs: NDArray[np.float32]


def read_json(raw: bytes, library: Library, max_rows: int, reader: Reader | None = None) -> Rows:
    """A body of JSON; a `reader` reads most of them faster.

    Raises MalformedError, InputError and NotFoundError, naming what is wrong, and BusyError while nothing is loaded.
    """
    plain = reader.read(raw) if reader is not None else None
    rows = _plain_rows(plain, library, max_rows) if plain is not None else None
    if rows is not None:
        return rows
    asked = check_fields(parse_json_object(raw), PredictRequest)
    model = library.get(asked.model, asked.version)
    most = model.manifest.input.rows_of(max_rows)
    return Rows(asked, model, parse_inputs(asked.inputs, model.manifest, most))


def _plain_rows(plain: Plain, library: Library, max_rows: int) -> Rows | None:
    """None where something is wrong, for the slow reading to say what."""
    try:
        options = Options.model_validate(plain.fields)
    except ValidationError:
        return None
    model = library.get(options.model, options.version)
    rows, size = plain.rows.shape
    if size != model.manifest.input.size or rows > model.manifest.input.rows_of(max_rows):
        return None
    return Rows(options, model, plain.rows.reshape(rows, *model.manifest.input.shape))


async def read_form(request: Request, max_bytes: int, max_pixels: int) -> Rows:
    """A body of multipart/form-data with one picture or recording.

    Raises as `read_json`, and TooLargeError where a picture has more than `max_pixels` or a recording is too long.
    """
    library: Library = request.app.state.library
    form = check_fields(await _read_fields(request, max_bytes), PredictForm)
    if form.image is None and form.audio is None:
        raise InputError("image or audio is missing: PNG or JPEG, or WAV or FLAC where the model hears recordings")
    if form.audio is not None and form.invert is not None:
        raise InputError("invert: it is for pictures, got a recording")
    kind: Literal["image", "audio"] = "image" if form.audio is None else "audio"
    model = library.get(form.model or library.default_for(kind), form.version)
    if form.audio is not None:
        read = partial(read_recording, form.audio, model.manifest)
    else:
        read = partial(read_image, form.image, model.manifest, invert=bool(form.invert), max_pixels=max_pixels)
    return Rows(form, model, await asyncio.to_thread(read))


async def _read_fields(request: Request, max_bytes: int) -> dict[str, Any]:
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
    if isinstance(value, UploadFile) != (key in FILES):
        expected = f"a file (curl -F {key}=@{FILES[key]})" if key in FILES else "a plain value, not a file"
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


def check_top_k(asked: int | None, manifest: Manifest) -> int:
    """How many of the best classes to show; by default 3. Raises InputError where there are not so many."""
    classes = len(manifest.classes)
    if asked is not None and asked > classes:
        raise InputError(f"top_k: got {asked}, expected 1 to {classes}, the classes of {manifest.name}")
    return asked or min(DEFAULT_TOP_K, classes)
