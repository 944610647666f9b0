"""The web application: its pages, and what stands before all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from ilf_client import AsyncClient
from ilf_common.errors import IlfError
from services.console.accounts import accounts_of
from services.console.faults import on_crash, on_error, on_http
from services.console.identity import open_to_all
from services.console.metrics import Measured
from services.console.oidc import open_provider
from services.console.pages import (
    agreement,
    annotate,
    compare,
    contrast,
    exchange,
    jobs,
    login,
    new_run,
    policies,
    pools,
    reliability,
    review,
    run,
    runs,
    samples,
)
from services.console.rendering import FOLDER
from services.console.security import SecurityHeaders
from services.console.sessions import session_key, session_middleware
from services.console.settings import ConsoleSettings

OpenClient = Callable[[], AbstractAsyncContextManager[AsyncClient]]


@open_to_all
async def healthz(request: Request) -> Response:
    """Says that the console answers; services that are down are no fault of it."""
    return PlainTextResponse("ok\n")


ROUTES: list[BaseRoute] = [
    Route("/healthz", healthz),
    Mount("/static", StaticFiles(directory=FOLDER / "static"), name="static"),
    *login.routes,
    *annotate.routes,
    *compare.routes,
    *review.routes,
    *agreement.routes,
    *exchange.routes,
    *runs.routes,
    *new_run.routes,
    *run.routes,
    *samples.routes,
    *reliability.routes,
    *contrast.routes,
    *jobs.routes,
    *policies.routes,
    *pools.routes,
]


def build_app(settings: ConsoleSettings, open_client: OpenClient) -> Starlette:
    """The application.

    Args:
        settings: All settings.
        open_client: Opens the client to the services; it belongs to the event loop that serves.

    Raises:
        FailedPreconditionError: A file with a key, token or secret cannot be used.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with open_client() as client:
            app.state.client = client
            yield

    app = Starlette(
        routes=ROUTES,
        middleware=[
            Middleware(Measured),
            Middleware(SecurityHeaders, https=settings.server.is_https),
            session_middleware(settings, session_key(settings)),
        ],
        exception_handlers={IlfError: on_error, HTTPException: on_http, Exception: on_crash},
        lifespan=lifespan,
        max_body_size=settings.server.max_body_bytes,
    )
    app.state.settings = settings
    app.state.accounts = accounts_of(settings)
    app.state.provider = open_provider(settings.oidc)
    return app
