"""/v2/repository: which versions there are, and loading and unloading where clients may. It does not run models."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from service.body import parse_json_object, read_body
from service.errors import InputError, RefusedError
from service.protocol.about import library_of
from service.settings import Settings

router = APIRouter(prefix="/v2/repository", tags=["Open Inference Protocol"])


@router.post("/index", summary="Every version in the repository")
async def index(request: Request) -> list[dict[str, str]]:
    """READY, or UNAVAILABLE with the reason. The body may be empty, or {"ready": true} for the ready ones alone."""
    library = library_of(request)
    raw = await read_body(request)
    only_ready = parse_json_object(raw).get("ready", False) if raw else False
    served = {**library.models(), **library.cascades()}
    found = [_entry(*key, "READY", "") for key in served]
    if not only_ready:
        found += [
            _entry(refusal.name, refusal.version, "UNAVAILABLE", refusal.reason)
            for refusal in library.refused
            if (refusal.name, refusal.version) not in served
        ]
        found += [_entry(name, version, "UNAVAILABLE", "unloaded") for name, version in library.unloaded]
    return sorted(found, key=lambda entry: (entry["name"], int(entry["version"])))


@router.post("/models/{name}/load", summary="Load a model, or look for its new versions")
async def load(request: Request, name: str) -> Response:
    """Looks into the repository at once. No file or configuration comes with the request."""
    await _control(request)
    await asyncio.to_thread(library_of(request).load, name)
    return Response(status_code=200)


@router.post("/models/{name}/unload", summary="Unload a model")
async def unload(request: Request, name: str) -> Response:
    """All its versions, until it is loaded again or the service starts anew."""
    await _control(request)
    await asyncio.to_thread(library_of(request).unload, name)
    return Response(status_code=200)


async def _control(request: Request) -> None:
    """Raises RefusedError where clients may not, InputError where more than the name is given."""
    settings: Settings = request.app.state.settings
    if not settings.model_control:
        raise RefusedError("loading and unloading by request is off; start the service with --model-control true")
    raw = await read_body(request)
    parameters = parse_json_object(raw).get("parameters") if raw else None
    refused = sorted(set(parameters) - {"unload_dependents"}) if isinstance(parameters, dict) else []
    if refused:
        raise InputError(f"parameters: got {', '.join(refused)[:100]}; models come from the repository alone")


def _entry(name: str, version: int, state: str, reason: str) -> dict[str, str]:
    return {"name": name, "version": str(version), "state": state, "reason": reason}
