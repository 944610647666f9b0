"""How many pages are asked for, and how long they take."""

from __future__ import annotations

import time

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ilf_common.telemetry import REGISTRY

_REQUESTS = Counter("ilf_console_requests", "Requests answered.", ("page", "status"), registry=REGISTRY)
_SECONDS = Histogram(
    "ilf_console_seconds",
    "Time to the first byte of an answer.",
    ("page",),
    registry=REGISTRY,
    buckets=(0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)


class Measured:
    """Counts and times the requests of each page; addresses that no page has are counted together.

    Args:
        app: What answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        start = time.perf_counter()

        async def send_measured(message: Message) -> None:
            if message["type"] == "http.response.start":
                page = "unknown" if message["status"] == 404 else "/" + scope["path"].split("/")[1]
                _REQUESTS.labels(page, str(message["status"])).inc()
                _SECONDS.labels(page).observe(time.perf_counter() - start)
            await send(message)

        await self._app(scope, receive, send_measured)
