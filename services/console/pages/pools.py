"""Pools of serving replicas: how many are wanted and there, and why."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.console.identity import Role, needs
from services.console.rendering import page


@needs(Role.ENGINEER)
async def show(request: Request) -> Response:
    """All pools; the table is renewed."""
    found = [pool async for pool in request.app.state.client.pools()]
    return page(request, "pools.html", pools=found, command="ilf pools")


@needs(Role.ENGINEER, keeps_alive=False)
async def live(request: Request) -> Response:
    """The part that is renewed."""
    return page(request, "pools_live.html", pools=[pool async for pool in request.app.state.client.pools()])


routes = [Route("/pools", show), Route("/pools/live", live)]
