"""Metrics and traces of a server process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import propagate, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server

from ilf_common.errors import FailedPreconditionError
from ilf_common.logging import configure_logging
from ilf_common.rpc.context import CallContext
from ilf_common.settings import TelemetrySettings

REGISTRY = CollectorRegistry()
"""All metrics of this process; services register theirs here."""

_RPCS = Counter("ilf_rpcs", "Calls answered.", ("service", "method", "code"), registry=REGISTRY)
_SECONDS = Histogram(
    "ilf_rpc_seconds",
    "Time to answer a call, streams from first to last message.",
    ("service", "method"),
    registry=REGISTRY,
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300),
)


def configure_telemetry(component: str, settings: TelemetrySettings) -> None:
    """Sets up logs and traces of this process; to be called once, at its start.

    Args:
        component: Name of the program.
        settings: Log level, and the collector that traces go to.
    """
    configure_logging(component, settings.log_level)
    provider = TracerProvider(resource=Resource.create({"service.name": f"ilf-{component}"}))
    if settings.otlp_endpoint:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=settings.otlp_endpoint)))
    trace.set_tracer_provider(provider)


def flush_telemetry() -> None:
    """Sends what traces are still held, at the end of the process."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.shutdown()


@contextmanager
def traced(call: CallContext, metadata: Mapping[str, str]) -> Iterator[None]:
    """A server span around a call, below the caller's span where its metadata names one (W3C `traceparent`)."""
    tracer = trace.get_tracer("ilf.rpc")
    with tracer.start_as_current_span(
        f"{call.service}/{call.method}",
        context=propagate.extract(metadata),
        kind=trace.SpanKind.SERVER,
        attributes={"rpc.system": "grpc", "rpc.service": call.service, "rpc.method": call.method},
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield
        finally:
            span.set_attribute("rpc.grpc.status_code", call.code)
            if call.code != "OK":
                span.set_status(trace.StatusCode.ERROR)


@contextmanager
def measured(call: CallContext) -> Iterator[None]:
    """Counts a call by its code and times it."""
    with _SECONDS.labels(call.service, call.method).time():
        try:
            yield
        finally:
            _RPCS.labels(call.service, call.method, call.code).inc()


@contextmanager
def metrics_page(host: str, port: int) -> Iterator[None]:
    """Serves the metrics at `http://host:port/metrics` meanwhile; port 0 serves nothing.

    Raises:
        FailedPreconditionError: reason PORT_IN_USE.
    """
    if port == 0:
        yield
        return
    try:
        server, thread = start_http_server(port, addr=host, registry=REGISTRY)
    except OSError as error:
        raise FailedPreconditionError(
            f"Metrics cannot be served on {host}:{port}: {error.strerror}. Set server.metrics_port to a free port, "
            "or to 0 for no metrics.",
            reason="PORT_IN_USE",
        ) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
