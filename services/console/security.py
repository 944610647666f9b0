"""What a browser is told to refuse, and requests that are refused because no page of the console sent them."""

from __future__ import annotations

import secrets
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ilf_common.errors import PermissionDeniedError
from services.console.sessions import Session

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "font-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
}
_READING = ("GET", "HEAD")


class SecurityHeaders:
    """Adds the headers to every answer.

    Args:
        app: What answers.
        https: Whether browsers reach the console through TLS, and are to keep to it.
    """

    def __init__(self, app: ASGIApp, https: bool) -> None:
        self._app = app
        self._headers = {**_HEADERS, **({"strict-transport-security": "max-age=31536000"} if https else {})}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                # Pages show people's own work: no cache keeps them. Scripts and styles are asked for again each time.
                headers.setdefault("cache-control", "no-cache" if scope["path"].startswith("/static/") else "no-store")
            await send(message)

        await self._app(scope, receive, send_with_headers)


async def check_csrf(request: Request) -> None:
    """Refuses what would change something and comes from no page of this session.

    The token is the header `x-csrf` or, in a form, the field `csrf`; the browser's word on where the request comes
    from has to agree.

    Raises:
        PermissionDeniedError: reason CSRF.
    """
    if request.method in _READING:
        return
    if not _is_same_origin(request):
        raise PermissionDeniedError("The request came from another site and was not carried out.", reason="CSRF")
    given = request.headers.get("x-csrf") or str((await request.form()).get("csrf", ""))
    if not secrets.compare_digest(given.encode(), Session.of(request).csrf.encode()):
        raise PermissionDeniedError(
            "This page is older than your session. Load it again and repeat what you did.", reason="CSRF"
        )


def local_path(target: str) -> str:
    """A path of this console: whatever else an address asks for leads home."""
    return target if target.startswith("/") and not target.startswith(("//", "/\\")) else "/"


def _is_same_origin(request: Request) -> bool:
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")
