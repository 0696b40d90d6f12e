"""service/app.py: every error is JSON that a user can read, the page has its headers, the reference is whole."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.repositories import serving, write_model


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    write_model(tmp_path)
    async with serving(tmp_path) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/nope", 404, "no page at /nope; see /docs"),
        ("GET", "/page/nope.js", 404, "no page at /page/nope.js; see /docs"),
        ("GET", "/page/../settings.py", 404, "no page at /settings.py; see /docs"),
        ("GET", "/page/%2e%2e/settings.py", 404, "no page at /page/../settings.py; see /docs"),
        ("GET", "/page/", 404, "no page at /page/; see /docs"),
        ("GET", "/predict", 405, "/predict does not take GET; it takes POST"),
        ("DELETE", "/models/digits-student", 405, "/models/digits-student does not take DELETE; it takes GET"),
        ("POST", "/page/app.js", 405, "/page/app.js does not take POST; it takes GET, HEAD"),
    ],
)
async def test_what_is_no_page_or_not_with_that_method_is_json(
    method: str, path: str, status: int, text: str, client: httpx.AsyncClient
):
    """And nothing of the machine is in it."""
    answer = await client.request(method, path)
    assert (answer.status_code, answer.json()) == (status, {"error": text})


@pytest.mark.parametrize("path", ["/predict/", "/models/", "/health/live/", "/v2/models/digits-student/"])
async def test_a_slash_too_many_is_told(path: str, client: httpx.AsyncClient):
    """A redirection would have no words, and would send the client to whatever Host it named."""
    answer = await client.get(path)
    assert (answer.status_code, answer.json()) == (404, {"error": f"no page at {path}; see /docs"})


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"])
async def test_a_probe_may_ask_for_the_head_alone(path: str, client: httpx.AsyncClient):
    """As some load balancers do."""
    answer = await client.head(path)
    assert (answer.status_code, answer.content) == (200, b"")


async def test_the_description_has_all_that_may_come_back(client: httpx.AsyncClient):
    """Both forms of a prediction's answer, the header between them, keys; versions only where paths have them."""
    described = (await client.get("/openapi.json")).json()
    for path in ("/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer"):
        found = described["paths"][path]["post"]["responses"]
        assert set(found["200"]["content"]) == {"application/json", "application/octet-stream"}
        assert "Inference-Header-Content-Length" in found["200"]["headers"]
        assert {"401", "408", "431", "503", "504"} <= set(found)
    protocol = {path: methods for path, methods in described["paths"].items() if path.startswith("/v2/")}
    for path, methods in protocol.items():
        for method, operation in methods.items():
            named = [(p["name"], p["in"]) for p in operation.get("parameters", []) if p["name"] == "version"]
            assert named == ([("version", "path")] if "{version}" in path else []), (method, path)
    assert described["security"] == [{"key": []}, {}]
    assert (await client.get("/v2/models/digits-student/ready?version=9")).status_code == 200


async def test_a_mistake_of_ours_says_nothing_but_that_the_log_has_it(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    """No traceback and no path; the service goes on."""
    library = client._transport.app.state.library
    monkeypatch.setattr(library, "newest", None)
    answer = await client.get("/models")
    assert (answer.status_code, answer.json()) == (500, {"error": "internal error; the log has the reason"})
    assert answer.headers["x-request-id"]
    monkeypatch.undo()
    assert (await client.get("/models")).status_code == 200


@pytest.mark.parametrize("path", ["/", "/page/app.js", "/page/style.css"])
async def test_the_page_loads_nothing_from_elsewhere(path: str, client: httpx.AsyncClient):
    """By its own headers; a browser asks again for what may have changed."""
    answer = await client.get(path)
    assert answer.status_code == 200
    assert (
        answer.headers["content-security-policy"]
        == "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'"
    )
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-cache"
    again = await client.get(path, headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert (await client.head(path)).status_code == 200


async def test_the_reference_documents_every_route_and_its_errors(client: httpx.AsyncClient):
    """Each error is {"error": text}."""
    schema = (await client.get("/openapi.json")).json()
    assert {path: list(operations) for path, operations in schema["paths"].items()} == {
        "/predict": ["post"],
        "/compare": ["post", "get"],
        "/compare/{id}": ["get", "delete"],
        "/compare/{id}/events": ["get"],
        "/compare/{id}/report.{kind}": ["get"],
        "/compare/{id}/samples.npz": ["get"],
        "/models": ["get"],
        "/models/{name}": ["get"],
        "/models/{name}/examples": ["get"],
        "/health/live": ["get"],
        "/health/ready": ["get"],
        "/metrics": ["get"],
        "/v2": ["get"],
        "/v2/health/live": ["get"],
        "/v2/health/ready": ["get"],
        "/v2/models": ["get"],
        "/v2/models/stats": ["get"],
        **{f"/v2/models/{{name}}{what}": ["get"] for what in ("", "/ready", "/config", "/stats")},
        **{f"/v2/models/{{name}}/versions/{{version}}{what}": ["get"] for what in ("", "/ready", "/config", "/stats")},
        "/v2/models/{name}/infer": ["post"],
        "/v2/models/{name}/versions/{version}/infer": ["post"],
        "/v2/repository/index": ["post"],
        "/v2/repository/models/{name}/load": ["post"],
        "/v2/repository/models/{name}/unload": ["post"],
    }
    for operations in schema["paths"].values():
        for operation in operations.values():
            for status in ("400", "403", "404", "413", "415", "422", "500", "503"):
                problem = operation["responses"][status]["content"]["application/json"]["schema"]["$ref"]
                assert problem == "#/components/schemas/Problem"
    forms = schema["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert list(forms["multipart/form-data"]["schema"]["properties"]) == [
        "model",
        "version",
        "temperature",
        "top_k",
        "image",
        "invert",
        "audio",
    ]
    assert (await client.get("/docs")).status_code == 200


async def test_ready_is_logged_with_the_address_of_the_page(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Once, after a line for each model."""
    caplog.set_level(logging.INFO, logger="service")
    write_model(tmp_path)
    async with serving(tmp_path, host="::1", port=8123):
        pass
    assert caplog.messages == [
        "loaded digits-student/1: student, 650 parameters, CPUExecutionProvider",
        "ready: the page is http://[::1]:8123/, the reference http://[::1]:8123/docs",
    ]
