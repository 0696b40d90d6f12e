"""Asks a Stillroom service for a comparison, as a job. It knows its routes, not how it measures."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from service.comparison.client.server import Server, said
from service.comparison.own_data import draw, fitted, read_examples
from service.comparison.plan import Progress
from service.comparison.request import CompareRequest
from service.comparison.schema.report import Report
from service.comparison.terminal import Terminal
from service.errors import InputError, RemoteError
from service.manifest import InputSpec

NAME = "stillroom"
TIMEOUT_S = 60.0
POLL_S = 0.3

Headers = Iterable[tuple[str, str]]


def is_ours(url: str, headers: Headers) -> bool:
    """Whether a Stillroom service answers there. Raises RemoteError where nobody does."""
    server = Server(url, headers, TIMEOUT_S)
    try:
        answers = server.get("/v2")
        return answers.status == 200 and _object(server, "/v2", answers.body).get("name") == NAME
    finally:
        server.close()


def compare_at_service(
    url: str, headers: Headers, data: Path | None, label: str, asked: CompareRequest
) -> tuple[Report, bytes]:
    """The report, and the raw latencies as .npz. Raises RemoteError with what the service says."""
    server = Server(url, [*headers, ("Prefer", "respond-async")], TIMEOUT_S)
    fields = asked.model_dump(exclude_none=True)
    if data is not None:
        fields |= _own(server, data, label, asked)
    try:
        job = _ask(server, "POST", "/compare", json.dumps(fields).encode(), expected=202)
        path = f"/compare/{job['id']}"
        with Terminal() as terminal:
            job = _follow(server, path, terminal)
        if job["state"] != "done":
            raise server.wrong(path, f"the comparison is {job['state']}: {job['error']}")
        answers = server.get(f"{path}/samples.npz")
        return Report.model_validate(job["report"]), answers.body
    finally:
        server.close()


def _follow(server: Server, path: str, terminal: Terminal) -> dict[str, Any]:
    """The job when it has ended; cancelled where the user interrupts."""
    try:
        while True:
            job = _ask(server, "GET", path)
            if job["state"] not in ("queued", "running"):
                return job
            progress = job["progress"]
            if progress:
                terminal.tell(Progress(progress["done"], progress["total"], progress["doing"]))
            else:
                terminal.say(f"the comparison is {job['state']}")
            time.sleep(POLL_S)
    except (KeyboardInterrupt, SystemExit):
        _ask(server, "DELETE", path)
        raise


def _own(server: Server, data: Path, label: str, asked: CompareRequest) -> dict[str, Any]:
    """The user's examples as the request's own inputs and labels, in the shape that the first model takes."""
    if not asked.models:
        raise InputError("--models: expected two or more beside --data")
    name, _, version = asked.models[0].partition("/")
    manifest = _ask(server, "GET", f"/models/{name}" + (f"?version={version}" if version else ""))
    takes = InputSpec.model_validate_json(json.dumps(manifest["input"]))
    examples = read_examples(data, takes.shape, label=label, image=takes.image, audio=takes.audio)
    drawn = draw(fitted(examples, manifest["classes"]), asked.limit, asked.seed or 0)
    inputs = drawn.inputs.reshape(len(drawn.inputs), -1)
    return {"inputs": inputs.tolist(), "labels": drawn.labels, "limit": None}


def _ask(server: Server, method: str, path: str, body: bytes = b"", *, expected: int = 200) -> dict[str, Any]:
    answers = server.ask(path, server.request(method, path, body))
    if answers.status != expected:
        raise server.wrong(path, said(answers))
    return _object(server, path, answers.body)


def _object(server: Server, path: str, body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise RemoteError(f"{server.target.url}{path}: what came is no JSON object")
    return value
