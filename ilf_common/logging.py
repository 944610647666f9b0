"""JSON log lines on standard output; they hold facts about calls, never prompts, texts or secrets."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from opentelemetry import trace

from ilf_common.rpc.context import current_call

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_CHATTY = ("httpx", "httpcore", "urllib3", "filelock", "fsspec", "asyncio", "grpc._cython.cygrpc")


class JsonFormatter(logging.Formatter):
    """One JSON object per line; `extra` fields of a record become fields of the object.

    Args:
        component: Name of the program, written as `component`.
    """

    def __init__(self, component: str) -> None:
        super().__init__()
        self._component = component

    def format(self, record: logging.LogRecord) -> str:
        """Writes a record with time, severity, message, the current call's ids, and its own fields."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "severity": record.levelname,
            "component": self._component,
            "logger": record.name,
            "message": record.getMessage(),
            **_call_fields(),
            **{name: value for name, value in vars(record).items() if name not in _STANDARD},
        }
        if record.exc_info:
            line["stack"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def _call_fields() -> dict[str, str]:
    fields = {}
    call = current_call()
    if call is not None:
        fields = {"service": call.service, "rpc": call.method, "request_id": call.request_id}
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        fields["trace_id"] = trace.format_trace_id(span.trace_id)
    return fields


def configure_logging(component: str, level: str = "INFO") -> None:
    """Sends all log records of this process to standard output as JSON, replacing what was set up before.

    Args:
        component: Name of the program.
        level: Least severity that is written; chatty libraries start at WARNING.
    """
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter(component))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
