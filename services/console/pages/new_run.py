"""A new run: from a form or a YAML text, which are the same thing, checked and previewed before it is started."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from ilf_client.config import build, plain
from ilf_client.models.runs import Run
from ilf_client.models.specs import RunSpec
from ilf_common.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from services.console import audit
from services.console.faults import violations
from services.console.identity import Role, needs
from services.console.rendering import page
from services.console.views import spec_form

_PREVIEW_ROWS = 20
_MOST_PREVIEW_ROWS = 10_000


@dataclass(frozen=True)
class Draft:
    """What somebody has written so far.

    Attributes:
        data: The spec as in a YAML file.
        yaml: The text, where it is written as such; None for the form.
        name: Id of the run; empty lets the server choose.
        rows: Of a preview.
        id: Of this draft: sent twice, it starts one run.
        wrong: Problems by field.
        resolved: The spec as it would run, once it is checked.
    """

    data: Mapping[str, Any] = field(default_factory=dict)
    yaml: str | None = None
    name: str = ""
    rows: str = str(_PREVIEW_ROWS)
    id: str = ""
    wrong: Mapping[str, str] = field(default_factory=dict)
    resolved: str = ""


@needs(Role.ENGINEER)
async def show(request: Request) -> Response:
    """An empty draft, or the spec of another run."""
    given = request.query_params
    data: Mapping[str, Any] = {}
    if given.get("from"):
        run: Run = await request.app.state.client.runs.get(given["from"])
        data = spec_form.without_defaults(plain(run.spec))
    text = spec_form.as_yaml(data) if given.get("as") == "yaml" else None
    return _answer(request, Draft(data, text))


@needs(Role.ENGINEER)
async def change(request: Request) -> Response:
    """Turns the form into YAML and back, checks the draft, previews it, or starts it."""
    form = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
    draft, action = _draft(form), form.get("action", "check")
    if draft.wrong:
        return _answer(request, draft, 400)
    if action == "as_yaml":
        return _answer(request, replace(draft, yaml=spec_form.as_yaml(draft.data)))
    if action == "as_form":
        return _answer(request, replace(draft, yaml=None))
    try:
        return await _carry_out(request, draft, action)
    except InvalidArgumentError as error:
        return _answer(request, replace(draft, wrong=_by_path(violations(error)) or {"spec": error.message}), 400)
    except (NotFoundError, FailedPreconditionError) as error:
        return _answer(request, replace(draft, wrong={"spec": error.message}), 409)


async def _carry_out(request: Request, draft: Draft, action: str) -> Response:
    spec = build(RunSpec, draft.data, folder=None)
    if action == "preview":
        spec = replace(spec, preview_rows=_rows(draft.rows))
    runs = request.app.state.client.runs
    if action not in ("preview", "start"):
        checked = await runs.create(spec, run_id=draft.name, validate_only=True)
        resolved = spec_form.as_yaml(spec_form.without_defaults(plain(checked.spec)))
        return _answer(request, replace(draft, resolved=resolved))
    # The same draft sent twice is one request; a changed one is another.
    request_id = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{draft.id} {action} {draft.name} {plain(spec)}"))
    run = await runs.create(spec, run_id=draft.name, request_id=request_id)
    audit.record(request, "start", run.name, preview_rows=spec.preview_rows)
    return RedirectResponse(f"/{run.name}", status_code=303)


def _draft(form: Mapping[str, str]) -> Draft:
    draft = Draft(
        yaml=form.get("yaml"), name=form.get("name", "").strip(), rows=form.get("rows", ""), id=form.get("draft", "")
    )
    try:
        data = spec_form.read_form(form) if draft.yaml is None else spec_form.read_text(draft.yaml) or {}
        if not isinstance(data, dict):
            raise InvalidArgumentError.of("yaml", f"is a {type(data).__name__}; `key: value` lines are wanted")
        return replace(draft, data=data)
    except InvalidArgumentError as error:
        return replace(draft, wrong=violations(error), data=spec_form.as_typed(form))


def _rows(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:9]) <= _MOST_PREVIEW_ROWS):
        raise InvalidArgumentError.of("rows", f"is {text[:40]!r}; 1 to {_MOST_PREVIEW_ROWS:,} rows can be previewed")
    return int(text)


def _by_path(wrong: Mapping[str, str]) -> dict[str, str]:
    """The server's field names as the form has them."""
    return {path.removeprefix("spec."): problem for path, problem in wrong.items()}


def _answer(request: Request, draft: Draft, status: int = 200) -> Response:
    form = spec_form.spec_form(draft.data, draft.wrong)
    beside = ("yaml", "rows", "run_id")
    elsewhere = draft.wrong if draft.yaml is not None else spec_form.unplaced(form, draft.wrong)
    return page(
        request,
        "new_run.html",
        status_code=status,
        draft=replace(draft, id=str(uuid.uuid4())),
        form=form,
        elsewhere={path: problem for path, problem in elsewhere.items() if path not in beside},
        command=f"ilf run run.yaml --preview {draft.rows if draft.rows.isdigit() else _PREVIEW_ROWS}",
    )


routes = [Route("/runs/new", show), Route("/runs/new", change, methods=["POST"])]
