"""What /v2 says of the server and its models: health, metadata, configuration, statistics. It does not run models."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from service import __version__
from service.cascade import Cascade
from service.errors import NotFoundError
from service.library import Library
from service.manifest import GRAPH, Manifest
from service.model import Model
from service.protocol.described import OUTPUTS
from service.protocol.statistics import shown
from service.settings import Settings
from service.statistics import Statistics

router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])

EXTENSIONS = ["binary_tensor_data", "classification", "model_configuration", "model_repository", "statistics"]
PLATFORM, CASCADE_PLATFORM = "onnxruntime_onnx", "stillroom_cascade"


def _version(request: Request) -> str | None:
    version: str | None = request.path_params.get("version")
    return version


Version = Annotated[str | None, Depends(_version)]
"""The version that a path names, where it names one; a parameter of FastAPI's own would be a query's elsewhere."""
VERSION = {"parameters": [{"name": "version", "in": "path", "required": True, "schema": {"type": "string"}}]}
"""Describes it."""


@router.get("", summary="The server and its extensions")
@router.get("/", include_in_schema=False)
async def server() -> dict[str, Any]:
    """What a client asks first."""
    return {"name": "stillroom", "version": __version__, "extensions": EXTENSIONS}


@router.get("/health/live", summary="The process answers")
@router.head("/health/live", include_in_schema=False)
async def live() -> dict[str, bool]:
    """200 as long as the process answers at all."""
    return {"live": True}


@router.get("/health/ready", summary="Models are loaded and warmed up")
@router.head("/health/ready", include_in_schema=False)
async def ready(request: Request) -> dict[str, bool]:
    """200 when at least one model can be had, else 503 with the reason."""
    library_of(request).get()
    return {"ready": True}


@router.get("/models", summary="The names of all models")
async def models(request: Request) -> dict[str, list[str]]:
    """As KServe lists them."""
    library = library_of(request)
    return {"models": [model.manifest.name for model in (*library.newest(), *library.newest_cascades())]}


@router.get("/models/stats", summary="Statistics of all models")
async def all_statistics(request: Request) -> dict[str, Any]:
    """Of every version that is served, and of every cascade."""
    library = library_of(request)
    return _statistics(request, [*library.models().values(), *library.cascades().values()])


@router.get("/models/{name}", summary="Metadata of a model")
@router.get("/models/{name}/versions/{version}", summary="Metadata of a version", openapi_extra=VERSION)
async def metadata(request: Request, name: str, version: Version) -> dict[str, Any]:
    """Names, types and shapes of its input and outputs; -1 is the batch. Its versions, or the one that is named."""
    model = model_of(request, name, version)
    manifest = model.manifest
    versions = [manifest.version] if version else library_of(request).versions(name)
    outputs = [{"name": output, "datatype": "FP32", "shape": [-1, len(manifest.classes)]} for output in OUTPUTS]
    return {
        "name": name,
        "versions": list(map(str, versions)),
        "platform": _platform(model),
        "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, *manifest.input.shape]}],
        "outputs": outputs,
    }


@router.get("/models/{name}/ready", summary="The model can be asked")
@router.get("/models/{name}/versions/{version}/ready", summary="The version can be asked", openapi_extra=VERSION)
async def model_ready(request: Request, name: str, version: Version) -> dict[str, Any]:
    """200 where it is served."""
    return {"name": model_of(request, name, version).manifest.name, "ready": True}


@router.get("/models/{name}/config", summary="Triton's configuration of a model")
@router.get(
    "/models/{name}/versions/{version}/config", summary="Triton's configuration of a version", openapi_extra=VERSION
)
async def config(request: Request, name: str, version: Version) -> dict[str, Any]:
    """As config.pbtxt says it, with the limits of this service; dims are without the batch."""
    settings: Settings = request.app.state.settings
    model = model_of(request, name, version)
    found = configuration(model.manifest, model.manifest.input.rows_of(settings.max_batch))
    return {**found, **_rule(model)} if isinstance(model, Cascade) else found


@router.get("/models/{name}/stats", summary="Statistics of a model")
@router.get("/models/{name}/versions/{version}/stats", summary="Statistics of a version", openapi_extra=VERSION)
async def statistics(request: Request, name: str, version: Version) -> dict[str, Any]:
    """Counts and nanoseconds since the service started; of all its versions where none is named."""
    model = model_of(request, name, version)
    library = library_of(request)
    versions = [model] if version else [library.get(name, number) for number in library.versions(name)]
    return _statistics(request, versions)


def configuration(manifest: Manifest, max_rows: int) -> dict[str, Any]:
    """Triton's ModelConfig in JSON."""
    shared = {"data_type": "TYPE_FP32", "is_shape_tensor": False}
    output = {**shared, "dims": [len(manifest.classes)], "label_filename": "labels.txt"}
    return {
        "name": manifest.name,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "version_policy": {"all": {}},
        "max_batch_size": max_rows,
        "input": [{**shared, "name": "input", "dims": list(manifest.input.shape), "format": "FORMAT_NONE"}],
        "output": [{**output, "name": name} for name in OUTPUTS],
        "default_model_filename": GRAPH,
        "dynamic_batching": {},
        "model_transaction_policy": {"decoupled": False},
    }


def _platform(model: Model) -> str:
    """A cascade is none that Triton knows."""
    return CASCADE_PLATFORM if isinstance(model, Cascade) else PLATFORM


def _rule(cascade: Cascade) -> dict[str, Any]:
    """Where the configuration of a cascade differs from its student's; parameters are text, as in Triton."""
    student, ensemble, rule = cascade.student.place, cascade.ensemble.place, cascade.rule
    values = {"student": student, "ensemble": ensemble, "threshold": rule.threshold, "temperature": rule.temperature}
    parameters = {name: {"string_value": str(value)} for name, value in values.items()}
    return {"platform": CASCADE_PLATFORM, "backend": "stillroom", "parameters": parameters}


def _statistics(request: Request, models: Iterable[Model]) -> dict[str, Any]:
    statistics: Statistics = request.app.state.statistics
    total = statistics.total()
    tallies = ((model, total.cascades if isinstance(model, Cascade) else total.versions) for model in models)
    return {"model_stats": [shown(model.manifest, of[model.place]) for model, of in tallies]}


def library_of(request: Request) -> Library:
    """The one of the app."""
    library: Library = request.app.state.library
    return library


def model_of(request: Request, name: str, version: str | None) -> Model:
    """The model of a route. Raises as `version_of`."""
    return version_of(library_of(request), name, version)


def version_of(library: Library, name: str, version: str | None) -> Model:
    """A version as a path names it; by default the model's newest. Raises NotFoundError, listing what exists."""
    if version is None:
        return library.get(name)
    if not version.isascii() or not version.isdecimal() or len(version) > 9:
        raise NotFoundError(f"unknown version {version[:40]!r} of {name}; versions are whole numbers")
    return library.get(name, int(version))
