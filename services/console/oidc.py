"""Sign-in with an OpenID Connect provider."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from authlib.common.errors import AuthlibBaseError
from authlib.integrations.starlette_client import OAuth, StarletteOAuth2App
from httpx2 import HTTPError
from joserfc.errors import JoseError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from ilf_common.errors import NotFoundError, PermissionDeniedError, UnauthenticatedError
from services.console import audit
from services.console.identity import Role, checked_name, open_to_all
from services.console.security import local_path
from services.console.sessions import Session, read_secret
from services.console.settings import OidcSettings

log = logging.getLogger("ilf.console.audit")

CALLBACK = "/login/callback"
_CODE = re.compile("[a-z_]{1,64}")
# It does not answer, answers no JSON, or its description lacks an address.
_NO_PROVIDER = (HTTPError, ValueError, RuntimeError)


def open_provider(settings: OidcSettings | None) -> StarletteOAuth2App | None:
    """The provider's client; None where there is none. The provider is first asked at the first sign-in.

    Raises:
        FailedPreconditionError: reason FILE_UNREADABLE; the client's secret cannot be read.
    """
    if settings is None:
        return None
    secret = read_secret(settings.client_secret_file) if settings.client_secret_file else None
    return OAuth().register(
        "provider",
        server_metadata_url=f"{settings.issuer.rstrip('/')}/.well-known/openid-configuration",
        client_id=settings.client_id,
        client_secret=secret,
        client_kwargs={
            "scope": settings.scope,
            "code_challenge_method": "S256",
            "timeout": 10.0,
            **({} if secret else {"token_endpoint_auth_method": "none"}),
        },
    )


@open_to_all
async def start(request: Request) -> Response:
    """Sends the browser to the provider."""
    provider, values = _provider(request), Session.of(request).values
    for name in [name for name in values if name.startswith("_state_")]:
        del values[name]  # sign-ins that were begun and left: a cookie has little room
    values["next"] = local_path(request.query_params.get("next", ""))
    try:
        answer: Response = await provider.authorize_redirect(request, request.app.state.settings.url + CALLBACK)
    except _NO_PROVIDER as error:
        raise _unreachable(error) from error
    return answer


@open_to_all
async def finish(request: Request) -> Response:
    """Takes the provider's word for who somebody is, and its groups for the role."""
    settings: OidcSettings = request.app.state.settings.oidc
    claims = await _claims(request, _provider(request))
    name = checked_name(str(claims.get(settings.name_claim) or claims["sub"]))
    role = role_of(claims, settings)
    if role is None:
        log.warning("login refused", extra={"action": "login", "outcome": "no role", "who": name})
        raise PermissionDeniedError(
            f"You are known as {name}, but have no role here. Whoever runs the console gives roles by the claim "
            f"{settings.roles_claim!r}.",
            reason="NO_ROLE",
        )
    session = Session.of(request)
    target = str(session.values.get("next", "/"))
    session.begin(name, role.label)
    audit.record(request, "login", f"accounts/{name}", by="oidc")
    return RedirectResponse(target, status_code=303)


async def _claims(request: Request, provider: Any) -> Mapping[str, Any]:
    """What the signed token says of a person, and where it says less than is asked for, the provider's user info."""
    settings: OidcSettings = request.app.state.settings.oidc
    try:
        token = await provider.authorize_access_token(request)
        claims = dict(token.get("userinfo") or {})
        if "sub" in claims and not {settings.name_claim, settings.roles_claim} <= set(claims):
            info = await provider.userinfo(token=token)
            # The signed token has the last word, and the info has to be of the same person.
            claims = {**info, **claims} if info.get("sub") == claims["sub"] else claims
    except _NO_PROVIDER as error:
        raise _unreachable(error) from error
    except (AuthlibBaseError, JoseError) as error:
        log.warning("login refused", extra={"action": "login", "outcome": "refused", "error": _code(error)})
        raise _refused() from error
    if "sub" not in claims:
        raise _refused()
    return claims


def role_of(claims: Mapping[str, Any], settings: OidcSettings) -> Role | None:
    """The highest role that a person's groups give; None for no role at all."""
    value = claims.get(settings.roles_claim) or []
    groups = set(value.split()) if isinstance(value, str) else set(map(str, value))
    if groups & set(settings.engineers):
        return Role.ENGINEER
    return Role.ANNOTATOR if groups & set(settings.annotators) else None


def _provider(request: Request) -> Any:
    provider = request.app.state.provider
    if provider is None:
        raise NotFoundError(
            "Nobody signs in by a provider here: the settings name none.",
            resource_type="page",
            resource_name=request.url.path,
        )
    return provider


def _code(error: AuthlibBaseError | JoseError) -> str:
    """The protocol's word for what is wrong, as `invalid_client`: whoever set this up knows by it where to look."""
    return error.error if _CODE.fullmatch(error.error or "") else type(error).__name__


def _refused() -> UnauthenticatedError:
    return UnauthenticatedError(
        "The sign-in was not finished: it was refused, took too long, or was begun in another window. Begin it again.",
        reason="SIGN_IN_REFUSED",
    )


def _unreachable(error: Exception) -> UnauthenticatedError:
    log.warning("provider unreachable", extra={"action": "login", "error": type(error).__name__})
    return UnauthenticatedError(
        "The sign-in's provider does not answer, or not as one does. Try it again; sessions that are open go on.",
        reason="PROVIDER_UNREACHABLE",
    )


routes = [Route("/login/oidc", start), Route(CALLBACK, finish)]
