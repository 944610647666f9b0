"""The trainer's span belongs to the trace of the call that asked for the job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as otlp_grpc

from services.finetune.trainer.job import write_job
from services.finetune.trainer.outcome import EXIT_FAILED
from tests.integration.finetune.conftest import Workshop

pytestmark = pytest.mark.engine

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(otlp_grpc.TraceServiceServicer):  # type: ignore[misc]
    def __init__(self) -> None:
        self.spans: list[object] = []

    def Export(self, request: otlp.ExportTraceServiceRequest, context: object) -> otlp.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return otlp.ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    collector = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(1))
    otlp_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield collector, f"http://127.0.0.1:{port}"
    server.stop(None)


def test_the_trainers_span_has_its_callers_trace(workshop: Workshop, collector: tuple[Collector, str]) -> None:
    spans, endpoint = collector
    # Rows that cannot be read end the trainer early, which is enough to have a span.
    workshop.store.write_bytes("data/rows.jsonl", b"{}\n")
    job = workshop.job("traced", "data/rows.jsonl")
    work = Path(job.work_dir)
    work.mkdir(parents=True)
    content = json.loads(write_job(job))
    content["runtime"]["otlp_endpoint"] = endpoint
    (work / "trainer.json").write_text(json.dumps(content))
    ended = subprocess.run(
        [sys.executable, "-m", "services.finetune.trainer", "--job", str(work / "trainer.json")],
        env={**os.environ, "TRACEPARENT": f"00-{TRACE}-{PARENT}-01"},
        check=False,
        timeout=200,
    )
    assert ended.returncode == EXIT_FAILED
    (span,) = spans.spans
    assert (span.name, span.trace_id.hex(), span.parent_span_id.hex()) == ("train", TRACE, PARENT)  # type: ignore[attr-defined]
