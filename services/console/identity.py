"""Who is asking, and what they may do."""

from __future__ import annotations

import unicodedata
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import wraps
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ilf_common.errors import PermissionDeniedError, UnauthenticatedError, require
from services.console.security import check_csrf
from services.console.sessions import Session

Endpoint = Callable[[Request], Awaitable[Response]]
MAX_NAME = 100


class Role(IntEnum):
    """What people may do; each role may do what those before it may."""

    ANNOTATOR = 1
    ENGINEER = 2

    @property
    def label(self) -> str:
        """As it stands in settings and logs."""
        return self.name.lower()


@dataclass(frozen=True)
class User:
    """A person who is signed in.

    Attributes:
        name: Stands beside the person's answers.
        role: What the person may do.
    """

    name: str
    role: Role


def user(request: Request) -> User:
    """Whoever is signed in.

    Raises:
        UnauthenticatedError: Nobody is.
    """
    found = user_or_none(request)
    if found is None:
        raise UnauthenticatedError("You are not signed in, or were signed out meanwhile. Sign in and do it again.")
    return found


def user_or_none(request: Request) -> User | None:
    """Whoever is signed in; None for nobody."""
    session = Session.of(request)
    if not session.is_alive(request.app.state.settings.session):
        return None
    return User(session.name, Role[session.role.upper()])


def needs(role: Role, *, keeps_alive: bool = True) -> Callable[[Endpoint], Endpoint]:
    """Guards a page: whoever is not signed in comes to the sign-in first, and whoever has a lesser role is refused.

    What changes something (every method but GET and HEAD) also needs the session's CSRF token.

    Args:
        role: The least role that may see the page.
        keeps_alive: The request shows that a person is there; False for what an open page asks for by itself.
    """

    def guard(endpoint: Endpoint) -> Endpoint:
        @wraps(endpoint)
        async def guarded(request: Request) -> Response:
            found = user_or_none(request)
            if found is None and wants_page(request):
                return RedirectResponse(f"/login?next={quote(_target(request))}", status_code=303)
            if user(request).role < role:
                raise PermissionDeniedError(f"This page is for {role.label}s; you are signed in as {_known(found)}.")
            await check_csrf(request)
            if keeps_alive:
                Session.of(request).touch()
            return await endpoint(request)

        guarded.__dict__["guarded_by"] = role
        return guarded

    return guard


def open_to_all(endpoint: Endpoint) -> Endpoint:
    """Marks what needs no sign-in; the CSRF token is needed all the same."""

    @wraps(endpoint)
    async def guarded(request: Request) -> Response:
        await check_csrf(request)
        return await endpoint(request)

    guarded.__dict__["guarded_by"] = None
    return guarded


def wants_page(request: Request) -> bool:
    """Whether a person looks at the answer, and not a script of a page."""
    return request.method == "GET" and "application/json" not in request.headers.get("accept", "")


def checked_name(name: str) -> str:
    """A person's name without outer blanks.

    Raises:
        InvalidArgumentError: It is empty, too long, or has characters that cannot be seen.
    """
    trimmed = name.strip()
    require(bool(trimmed), "name", "A name is wanted: it stands beside your answers.")
    require(len(trimmed) <= MAX_NAME, "name", f"{len(trimmed)} characters are too many; {MAX_NAME} are the most.")
    is_visible = all(unicodedata.category(character)[0] != "C" for character in trimmed)
    require(is_visible, "name", "Characters that cannot be seen are not allowed in a name.")
    return trimmed


def _target(request: Request) -> str:
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def _known(found: User | None) -> str:
    return f"{found.name}, {found.role.label}" if found else "nobody"
