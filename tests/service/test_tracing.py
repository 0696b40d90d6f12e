"""service/tracing.py: a collector gets a span for each request, by either way, with its wait and its run inside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.repositories import examples, write_pair
from tests.served import ROOT, free_port, serving

ROWS = examples(2)[0].tolist()
TRACE = "0af7651916cd43dd8448eb211c80319c"


class Collector(ThreadingHTTPServer):
    """Takes OTLP over HTTP and keeps the spans."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Take)
        self.spans: list[Any] = []
        self.services: set[str] = set()


class Take(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        assert isinstance(self.server, Collector)
        for resource in sent.resource_spans:
            self.server.services |= {
                a.value.string_value for a in resource.resource.attributes if a.key == "service.name"
            }
            for scope in resource.scope_spans:
                self.server.spans += scope.spans
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def attributes(span: Any) -> dict[str, Any]:
    found = {}
    for attribute in span.attributes:
        kind = attribute.value.WhichOneof("value")
        found[attribute.key] = getattr(attribute.value, kind)
    return found


def test_each_request_is_a_span_with_its_wait_and_its_run(
    collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """In the trace of its client; what is refused is one too."""
    write_pair(tmp_path)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
    body = json.dumps({"inputs": ROWS}).encode()
    sent = {"direct": body, "chunked": iter([body]), "refused": b"{"}
    with serving(tmp_path, free_port(), "--traces", "true") as client:
        for number, (name, content) in enumerate(sent.items(), 1):
            headers = {"traceparent": f"00-{TRACE}-{number:016x}-01", "X-Request-ID": name}
            client.post("/predict", content=content, headers=headers)
    assert collector.services == {"stillroom"}
    ours = [span for span in collector.spans if span.trace_id.hex() == TRACE]
    for number, name in enumerate(sent, 1):
        (request,) = [span for span in ours if span.parent_span_id.hex() == f"{number:016x}"]
        assert request.name == "POST /predict"
        assert attributes(request) == {
            "http.request.method": "POST",
            "http.route": "/predict",
            "http.response.status_code": 400 if name == "refused" else 200,
            "stillroom.request_id": name,
        }
        inside = {span.name: span for span in ours if span.parent_span_id == request.span_id}
        assert inside.keys() == (set() if name == "refused" else {"queue", "compute"})
        for span in inside.values():
            assert attributes(span) == {
                "stillroom.model": "digits-student",
                "stillroom.version": 1,
                "stillroom.rows": 2,
                "stillroom.batch_rows": 2,
            }
            assert request.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        if inside:
            assert inside["queue"].end_time_unix_nano == inside["compute"].start_time_unix_nano


def test_without_the_extra_it_says_what_to_install(tmp_path: Path):
    """At the start, in one line."""
    code = (
        "import sys, service.__main__ as s; sys.modules['opentelemetry.exporter'] = None\n"
        f"sys.exit(s.main(['--traces', 'true', '--models-dir', {str(tmp_path)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        2,
        "service: --traces: OpenTelemetry is not installed: pip install 'stillroom[traces]'\n",
    )
