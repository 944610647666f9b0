"""Sign-in by token or by a provider, and sign-out."""

from __future__ import annotations

import getpass
import logging
import secrets

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from ilf_common.errors import InvalidArgumentError
from services.console import audit, oidc
from services.console.accounts import Account
from services.console.faults import violations
from services.console.identity import Role, checked_name, needs, open_to_all, user_or_none
from services.console.rendering import page
from services.console.security import local_path
from services.console.sessions import Session

log = logging.getLogger("ilf.console.audit")


@open_to_all
async def show(request: Request) -> Response:
    """The sign-in; the address that is printed at the start carries the token."""
    target = local_path(request.query_params.get("next", ""))
    if user_or_none(request) is not None:
        return RedirectResponse(target, status_code=303)
    token = request.query_params.get("token", "")
    return _form(request, token, target, "That token is not known; look for the address that is printed at the start.")


def _form(request: Request, token: str, target: str, refusal: str, name: str = "", wrong_name: str = "") -> Response:
    account = _account(request, token)
    return page(
        request,
        "login.html",
        status_code=400 if (token and account is None) or wrong_name else 200,
        account=account,
        token=token if account else "",
        target=target,
        refusal=refusal if token and account is None else "",
        name=name or _suggestion(),
        wrong_name=wrong_name,
        has_accounts=bool(request.app.state.accounts),
        provider=request.app.state.settings.oidc,
    )


@open_to_all
async def sign_in(request: Request) -> Response:
    """Takes the token, and the name where the account has none of its own."""
    form = await request.form()
    token, target = str(form.get("token", "")).strip(), local_path(str(form.get("next", "")))
    account = _account(request, token)
    if account is None:
        log.warning("login refused", extra={"action": "login", "outcome": "refused"})
        return _form(request, token or "-", target, "That token is not known.")
    name = str(form.get("name", account.name))
    try:
        name = account.name or checked_name(name)
    except InvalidArgumentError as error:
        return _form(request, token, target, "", name, violations(error)["name"])
    Session.of(request).begin(name, account.role.label)
    audit.record(request, "login", f"accounts/{name}", by="token")
    return RedirectResponse(target, status_code=303)


@needs(Role.ANNOTATOR)
async def sign_out(request: Request) -> Response:
    """Ends the session."""
    audit.record(request, "logout", f"accounts/{Session.of(request).name}")
    Session.of(request).end()
    return RedirectResponse("/login", status_code=303)


@open_to_all
async def home(request: Request) -> Response:
    """Where a person's work is."""
    found = user_or_none(request)
    if found is None:
        return RedirectResponse("/login", status_code=303)
    return RedirectResponse("/runs" if found.role >= Role.ENGINEER else "/annotate", status_code=303)


def _suggestion() -> str:
    """The name of whoever runs the console, where the system knows one: on a person's machine that is the person."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def _account(request: Request, token: str) -> Account | None:
    known: list[Account] = request.app.state.accounts
    return next((one for one in known if secrets.compare_digest(one.token.encode(), token.encode())), None)


routes = [
    Route("/", home),
    Route("/login", show),
    Route("/login", sign_in, methods=["POST"]),
    Route("/logout", sign_out, methods=["POST"]),
    *oidc.routes,
]
