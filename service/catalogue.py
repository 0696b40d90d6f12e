"""GET /models: which models there are, what each says of itself, and examples from its held-out set.

It shows what the manifests and the library say. It does not run models.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request

from service.cascade import Cascade
from service.errors import BusyError
from service.held_out import read_held_out
from service.library import Library
from service.model import Model
from service.settings import Settings

router = APIRouter(prefix="/models", tags=["models"])

SHOWN = {
    "name",
    "version",
    "role",
    "classes",
    "input",
    "teacher",
    "temperature",
    "parameters",
    "multiply_accumulates",
    "bytes",
    "metrics",
    "created",
}
"""What the list shows of a manifest."""

Version = Annotated[int | None, Query(ge=1, description="by default the newest")]


@router.get("", summary="All models")
async def models(request: Request) -> dict[str, Any]:
    """The newest version of every model and cascade, which one is the default, and what was refused and why."""
    library: Library = request.app.state.library
    settings: Settings = request.app.state.settings
    try:
        default = library.get()
    except BusyError:
        default = None
    return {
        "device": {"asked": settings.device, "got": default and default.provider},
        "default": default and default.manifest.name,
        "models": [_entry(model, library) for model in library.newest()],
        "cascades": [_cascade(cascade, library) for cascade in library.newest_cascades()],
        "refused": [refusal._asdict() for refusal in library.refused],
    }


def _entry(model: Model, library: Library) -> dict[str, Any]:
    manifest = model.manifest.model_dump(mode="json", include=SHOWN)
    return {**manifest, "versions": library.versions(model.manifest.name), "provider": model.provider}


def _cascade(cascade: Cascade, library: Library) -> dict[str, Any]:
    student, rule = cascade.student.manifest, cascade.rule
    return {
        "name": cascade.name,
        "version": student.version,
        "versions": library.versions(cascade.name),
        "student": {"name": student.name, "version": student.version},
        "ensemble": {"name": rule.name, "version": rule.version},
        "threshold": rule.threshold,
        "temperature": rule.temperature,
        "created": student.model_dump(mode="json", include={"created"})["created"],
    }


@router.get("/{name}", summary="The manifest of a model")
async def manifest(request: Request, name: str, version: Version = None) -> dict[str, Any]:
    """Everything that the model says of itself, as in its manifest.json; of a cascade, what the list says of it."""
    library: Library = request.app.state.library
    model = library.get(name, version)
    return _cascade(model, library) if isinstance(model, Cascade) else model.manifest.model_dump(mode="json")


@router.get("/{name}/examples", summary="Held-out examples")
async def examples(
    request: Request,
    name: str,
    count: Annotated[int, Query(ge=1, le=100, description="how many, as far as there are so many")] = 12,
    seed: Annotated[int, Query(ge=0, description="another seed draws others")] = 0,
    version: Version = None,
) -> dict[str, Any]:
    """A seeded sample, without repetition, of the test set that travels with the model."""
    library: Library = request.app.state.library
    model = library.get(name, version)
    inputs, labels = await asyncio.to_thread(read_held_out, library.directory, model.stored)
    drawn = np.random.default_rng(seed).permutation(len(labels))[:count].tolist()
    return {
        "model": model.manifest.name,
        "version": model.manifest.version,
        "examples": [
            {"index": index, "label": model.manifest.classes[labels[index]], "input": inputs[index].tolist()}
            for index in drawn
        ],
    }
