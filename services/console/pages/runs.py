"""The list of runs."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ilf_client.models.runs import RunState
from ilf_common.errors import InvalidArgumentError
from services.console.identity import Role, needs
from services.console.pages.reading import first
from services.console.rendering import page
from services.console.views import commands
from services.console.views.stages import badge_kind

STATES = [state for state in RunState if state is not RunState.UNSPECIFIED]
_STEP = 50
_MOST = 1_000


@needs(Role.ENGINEER)
async def show(request: Request) -> Response:
    """Runs, the newest first, by state and text."""
    states = _states(request.query_params.getlist("state"))
    text = request.query_params.get("text", "")
    limit = _limit(request.query_params.get("limit", ""))
    found = await first(limit + 1, request.app.state.client.runs.list(states=states, text=text))
    return page(
        request,
        "runs.html",
        runs=found[:limit],
        states=STATES,
        chosen=states,
        text=text,
        more=limit + _STEP if len(found) > limit else 0,
        badge_kind=badge_kind,
        command=commands.list_runs(states, text),
    )


def _states(asked: Sequence[str]) -> list[RunState]:
    known = {state.value: state for state in STATES}
    for word in asked:
        if word not in known:
            raise InvalidArgumentError.of("state", f"is {word[:40]!r}; known are {', '.join(known)}")
    return [known[word] for word in asked]


def _limit(text: str) -> int:
    return min(max(int(text), 1), _MOST) if text.isascii() and text.isdigit() and len(text) < 6 else _STEP


routes = [Route("/runs", show)]
