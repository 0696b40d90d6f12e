"""OpenTelemetry traces, which are an extra: a span for each request, and in it one for the wait and one for the run.

It knows spans, not requests or models. Where they go is told by OpenTelemetry's own variables, such as
OTEL_EXPORTER_OTLP_ENDPOINT. https://opentelemetry.io/docs/specs/semconv/http/http-spans/
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from service.errors import SettingsError

if TYPE_CHECKING:  # an extra: imported where it is asked for
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span

Attributes = Mapping[str, str | int]


def check_traces() -> None:
    """Raises SettingsError where the extra is not installed."""
    try:
        found = importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http")
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise SettingsError("--traces: OpenTelemetry is not installed: pip install 'stillroom[traces]'")


class Tracing:
    """Makes spans and hands them to `processor`; by default that sends them by OTLP, in the background."""

    def __init__(self, processor: SpanProcessor | None = None) -> None:
        from opentelemetry import context, propagate, trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._context, self._propagate, self._trace = context, propagate, trace
        # Resource.create lets OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win.
        self._provider = TracerProvider(resource=Resource.create({"service.name": "stillroom"}))
        self._provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("stillroom")

    def begin(self, headers: Mapping[str, str]) -> Span:
        """The span of a request, a part of its client's trace where its headers tell of one (traceparent)."""
        parent = self._propagate.extract(headers)
        return self._tracer.start_span("request", parent, kind=self._trace.SpanKind.SERVER)

    def within(self, span: Span) -> AbstractContextManager[Any]:
        """What happens in it belongs to the span, which goes on after it."""
        return self._trace.use_span(span, end_on_exit=False, record_exception=False, set_status_on_exception=False)

    def end(self, span: Span, method: str, route: str, status: int, attributes: Attributes) -> None:
        """The request is answered."""
        span.update_name(f"{method} {route}")
        span.set_attributes({"http.request.method": method, "http.route": route, "http.response.status_code": status})
        span.set_attributes(dict(attributes))
        if status >= 500:
            span.set_status(self._trace.StatusCode.ERROR)
        span.end()

    def current(self) -> Context:
        """To what a span that is made later will belong."""
        return self._context.get_current()

    def ran(self, parent: Context, queue_s: float, compute_s: float, attributes: Attributes) -> None:
        """Rows have waited and then run, up to this moment."""
        end = time.time_ns()
        start = end - int(compute_s * 1e9)
        for name, begun, ended in (("queue", start - int(queue_s * 1e9), start), ("compute", start, end)):
            self._tracer.start_span(name, parent, start_time=begun, attributes=dict(attributes)).end(ended)

    def stop(self) -> None:
        """Sends what is left."""
        self._provider.shutdown()
