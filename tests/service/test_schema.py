"""Requests that schemathesis draws from our own OpenAPI description: what is described is what happens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from service.app import create_app
from service.settings import Settings
from tests.repositories import write_pair
from tests.served import free_port, serving

OPERATIONS = [
    (method.upper(), path)
    for path, methods in create_app(Settings(models_dir=Path("none"))).openapi()["paths"].items()
    for method in methods
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a service over an ensemble and its student; loading and unloading stays off."""
    models = tmp_path_factory.mktemp("models")
    write_pair(models)
    with serving(models, free_port(), "--max-batch", "64") as client:
        yield str(client.base_url)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_what_is_described_is_what_happens(method: str, path: str, address: str):
    """Never a 500; the status, the content type and the body are those of the description."""
    operation = schemathesis.openapi.from_url(f"{address}/openapi.json")[path][method]

    @given(case=operation.as_strategy())
    @settings(
        max_examples=10,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def check(case: schemathesis.Case) -> None:
        if (method, path) == ("POST", "/compare"):  # 202 at once, not 200 after up to a minute
            case.headers = {**(case.headers or {}), "Prefer": "respond-async"}
        # No schema can say that a row must have as many numbers as the model that it names takes.
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    check()
