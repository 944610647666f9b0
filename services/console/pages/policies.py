"""Policy versions with where they come from; to promote them and to go back."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from ilf_client.models.policies import Policy, PolicyState
from ilf_client.models.runs import Run
from ilf_common.errors import IlfError, InvalidArgumentError, NotFoundError, RetryableError
from services.console import audit
from services.console.identity import Role, needs
from services.console.rendering import flash, page
from services.console.views import commands, policies
from services.console.views.stages import badge_kind

_SECONDS = 3.0
_MOST_RUNS = 50


@needs(Role.ENGINEER)
async def show(request: Request) -> Response:
    """All versions; what trained them is left out while the orchestrator does not answer."""
    found = await _policies(request)
    names = policies.runs_of(found)[:_MOST_RUNS]
    runs = await asyncio.gather(*(_run(request, name) for name in names))
    known = {name: run for name, run in zip(names, runs, strict=True) if isinstance(run, Run)}
    return page(
        request,
        "policies.html",
        versions=[policies.version(policy, known) for policy in found],
        aliases=sorted(policies.holders(found).items()),
        unanswered=any(isinstance(run, RetryableError) for run in runs),
        badge_kind=badge_kind,
        command="ilf policies list",
    )


@needs(Role.ENGINEER)
async def ask_promote(request: Request) -> Response:
    """Says what promoting does."""
    alias, name = _given(request.query_params.get("alias", ""), "alias"), _given(request.query_params.get("name", ""))
    found = await _policies(request)
    target = next((policy for policy in found if policy.name == name), None)
    if target is None:
        raise NotFoundError(
            f"No version {name!r} is loaded; the page Policies shows those that are.",
            resource_type="policy",
            resource_name=name,
            reason="POLICY_NOT_FOUND",
        )
    possible = ""
    if alias in target.aliases:
        possible = f"{alias} points at {name} already."
    elif target.state not in (PolicyState.SERVING, PolicyState.PARKED):
        possible = f"{name} is {target.state.value}: only a version that serves can be promoted."
    return page(
        request,
        "confirm.html",
        title=f"Point {alias} at {name}?",
        says=policies.promotion(alias, name, found),
        button=f"Point {alias} at {name}",
        possible=possible,
        back="/policies",
        fields={"alias": alias, "name": name},
        command=commands.of("policies", "promote", alias, name),
    )


@needs(Role.ENGINEER)
async def promote(request: Request) -> Response:
    """Points the alias at the version."""
    form = await request.form()
    alias, name = _given(str(form.get("alias", "")), "alias"), _given(str(form.get("name", "")))
    moved = await request.app.state.client.policies.promote(alias, name)
    audit.record(request, "promote", moved.policy, alias=moved.alias)
    before = f"; before it was {moved.previous_policy}" if moved.previous_policy else ""
    flash(request, f"{moved.alias} is now {moved.policy}{before}.")
    return RedirectResponse("/policies", status_code=303)


@needs(Role.ENGINEER)
async def ask_rollback(request: Request) -> Response:
    """Says what going back does."""
    alias = _given(request.query_params.get("alias", ""), "alias")
    found = await _policies(request)
    target = policies.rollback_target(alias, found)
    possible = ""
    if alias not in policies.holders(found):
        possible = f"There is no alias {alias}; promote a version to it first."
    elif not target:
        possible = f"{alias} has no version before this one that is still loaded."
    return page(
        request,
        "confirm.html",
        title=f"Roll {alias} back?" if not target else f"Roll {alias} back to {target}?",
        says=policies.rolling_back(alias, target, found) if target else [],
        button=f"Roll {alias} back",
        possible=possible,
        back="/policies",
        fields={"alias": alias, "target": target},
        command=commands.of("policies", "rollback", alias),
    )


@needs(Role.ENGINEER)
async def rollback(request: Request) -> Response:
    """Points the alias back at its previous version, if that is still the one that the person was told."""
    form = await request.form()
    alias, target = _given(str(form.get("alias", "")), "alias"), _given(str(form.get("target", "")), "target")
    if policies.rollback_target(alias, await _policies(request)) != target:
        flash(request, f"{alias} was moved meanwhile and would not go back to {target}: nothing was done.", "bad")
        return RedirectResponse("/policies", status_code=303)
    moved = await request.app.state.client.policies.rollback(alias)
    audit.record(request, "rollback", moved.policy, alias=moved.alias)
    flash(request, f"{moved.alias} is {moved.policy} again.")
    return RedirectResponse("/policies", status_code=303)


async def _policies(request: Request) -> list[Policy]:
    return [policy async for policy in request.app.state.client.policies.list()]


async def _run(request: Request, name: str) -> Run | IlfError:
    try:
        found: Run = await request.app.state.client.runs.get(name, timeout=_SECONDS)
        return found
    except (NotFoundError, RetryableError) as error:
        return error


def _given(text: str, field: str = "name") -> str:
    if not text.strip():
        raise InvalidArgumentError.of(field, "is missing; give the name of an alias, such as production, and a version")
    return text.strip()


routes = [
    Route("/policies", show),
    Route("/policies/promote", ask_promote),
    Route("/policies/promote", promote, methods=["POST"]),
    Route("/policies/rollback", ask_rollback),
    Route("/policies/rollback", rollback, methods=["POST"]),
]
