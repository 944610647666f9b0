"""What people see when something is wrong: which service is down, what was refused, what does not exist."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ilf_common import errors
from services.console.health import services_down
from services.console.identity import wants_page
from services.console.rendering import page

log = logging.getLogger("ilf.console")

_TITLES: Mapping[type[errors.IlfError], tuple[int, str]] = {
    errors.InvalidArgumentError: (400, "That cannot be taken"),
    errors.NotFoundError: (404, "There is no such thing"),
    errors.AlreadyExistsError: (409, "It exists already"),
    errors.FailedPreconditionError: (409, "That cannot be done now"),
    errors.AbortedError: (409, "Somebody changed it meanwhile"),
    errors.ResourceExhaustedError: (503, "Too much is asked at once"),
    errors.UnavailableError: (503, "A service does not answer"),
    errors.DeadlineExceededError: (504, "A service took too long"),
    errors.UnauthenticatedError: (401, "Sign in first"),
    errors.PermissionDeniedError: (403, "You may not do that"),
    errors.UnimplementedError: (501, "This service does not offer that"),
}
_HTTP = {404: "There is no such page", 405: "That cannot be done here", 413: "That is too large"}


@dataclass(frozen=True)
class Fault:
    """A fault as it is shown.

    Attributes:
        status: HTTP status.
        title: What is wrong, in a few words.
        message: What was wrong with which value, and what to do.
        reason: For programs, UPPER_SNAKE.
        fields: What is wrong with which field.
        down: Services that do not answer.
        retry: The same request may work later.
    """

    status: int
    title: str
    message: str
    reason: str
    fields: Mapping[str, str] = field(default_factory=dict)
    down: Sequence[str] = ()
    retry: bool = False


def violations(error: errors.IlfError) -> dict[str, str]:
    """What is wrong with which field, for a form that shows it beside the field."""
    found = error.violations if isinstance(error, errors.InvalidArgumentError) else ()
    return {violation.field: violation.description for violation in found}


async def on_error(request: Request, error: Exception) -> Response:
    """Answers for an error of the services, or of the console itself."""
    return _answer(request, await describe(request, cast(errors.IlfError, error)))


async def on_http(request: Request, error: Exception) -> Response:
    """Answers for what the web framework refuses."""
    refused = cast(HTTPException, error)
    title = _HTTP.get(refused.status_code, "That cannot be done")
    what = "was not found; look at its address" if refused.status_code == 404 else "was refused"
    message = f"{request.method} {request.url.path} {what}."
    return _answer(request, Fault(refused.status_code, title, message, f"HTTP_{refused.status_code}"))


async def on_crash(request: Request, error: Exception) -> Response:
    """Answers for a fault of the console; the log has its stack."""
    log.error("a page failed", exc_info=error, extra={"method": request.method, "path": request.url.path})
    message = "The fault is the console's; its log has the cause. What you typed is kept in this browser."
    return _answer(request, Fault(500, "This page failed", message, "INTERNAL"))


async def describe(request: Request, error: errors.IlfError) -> Fault:
    """An error as it is shown; where a service does not answer, all are asked for their health."""
    status, title = next((found for kind, found in _TITLES.items() if isinstance(error, kind)), (500, "A fault"))
    if isinstance(error, errors.UnavailableError | errors.DeadlineExceededError):
        down = await services_down(request.app.state.settings.services)
        return Fault(status, title, _unanswered(down), error.reason, down=down, retry=True)
    retry = isinstance(error, errors.RetryableError)
    return Fault(status, title, error.message, error.reason, violations(error), retry=retry)


def _unanswered(down: Sequence[str]) -> str:
    if not down:
        return "All services answer again. Try it once more."
    verb = "does" if len(down) == 1 else "do"
    return (
        f"{' and '.join(down).capitalize()} {verb} not answer at the moment. Nothing is lost: this page goes on when "
        "it is back. On one machine `ilf status` tells more, and `ilf up` starts what is not running."
    )


def _answer(request: Request, fault: Fault) -> Response:
    if not wants_page(request) and "text/html" not in request.headers.get("accept", ""):
        return JSONResponse(as_json(fault), status_code=fault.status)
    return page(request, "fault.html", status_code=fault.status, fault=fault)


def as_json(fault: Fault) -> dict[str, Any]:
    """A fault for the scripts of a page."""
    return {
        "title": fault.title,
        "message": fault.message,
        "reason": fault.reason,
        "fields": dict(fault.fields),
        "down": list(fault.down),
        "retry": fault.retry,
    }
