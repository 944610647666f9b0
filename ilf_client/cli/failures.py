"""How a failed command ends: one line for people, the fields, a hint, and an exit code for programs."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from typing import Any

import click

from ilf_common import errors

DONE, FAILED, INVALID, UNAVAILABLE, NOT_FOUND, REFUSED, NOT_ALLOWED = range(7)
INTERRUPTED = 130

_CODES: Mapping[type[errors.IlfError], int] = {
    errors.InvalidArgumentError: INVALID,
    errors.RetryableError: UNAVAILABLE,
    errors.NotFoundError: NOT_FOUND,
    errors.FailedPreconditionError: REFUSED,
    errors.AlreadyExistsError: REFUSED,
    errors.AbortedError: REFUSED,
    errors.UnimplementedError: REFUSED,
    errors.UnauthenticatedError: NOT_ALLOWED,
    errors.PermissionDeniedError: NOT_ALLOWED,
}
_HINTS = {
    "UNAVAILABLE": "Is it running? `ilf status` tells, `ilf up` starts it; --server names another machine.",
    "DEADLINE_EXCEEDED": "Give it more time with --timeout SECONDS.",
    "RUN_NOT_FOUND": "`ilf runs list` shows all runs.",
    "JOB_NOT_FOUND": "`ilf jobs list` shows all jobs.",
    "MODEL_NOT_FOUND": "`ilf policies list` shows the models and versions that are served.",
    "POLICY_NOT_FOUND": "`ilf policies list` shows the models and versions that are served.",
    "DATASET_NOT_FOUND": "Local files are found beside the YAML file or here; others must lie in the artifact store.",
    "RUN_NOT_RESUMABLE": "`ilf runs explain RUN` shows which shards are there.",
    "TOO_MANY_BAD_ROWS": "`ilf runs samples RUN` shows each row with its error; max_bad_row_share allows more.",
    "UNAUTHENTICATED": "Set ILF_TOKEN_FILE to a file with a valid token.",
    "INTERNAL": "The service's log has the cause under the request id: .ilf/logs/ after `ilf up`.",
}


class ReportingGroup(click.Group):
    """A group whose commands may raise the project's errors."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; an error is reported and becomes the exit code."""
        try:
            return super().invoke(ctx)
        except errors.IlfError as error:
            report(error, as_json=_wants(ctx, "json"), debug=_wants(ctx, "debug"))
            ctx.exit(exit_code(error))
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(INTERRUPTED)


def exit_code(error: errors.IlfError) -> int:
    """The exit code of an error's class."""
    return next((code for kind, code in _CODES.items() if isinstance(error, kind)), FAILED)


def report(error: errors.IlfError, *, as_json: bool = False, debug: bool = False) -> None:
    """Writes an error to the standard error stream."""
    if debug:
        click.echo("".join(traceback.format_exception(error)), err=True)
    if as_json:
        click.echo(json.dumps({"error": describe(error)}, ensure_ascii=False), err=True)
        return
    violations = getattr(error, "violations", ())
    message = "invalid input" if violations and len(violations) > 1 else error.message
    click.echo(f"{click.style('Error', fg='red')}: {message} [{error.reason}]", err=True)
    if len(violations) > 1:
        for violation in violations:
            click.echo(f"  {violation.field}: {violation.description}", err=True)
    request_id = error.metadata.get("request_id")
    if request_id:
        click.echo(f"  request id: {request_id}", err=True)
    hint = error.metadata.get("hint") or _HINTS.get(error.reason)
    if hint:
        click.echo(f"Hint: {hint}", err=True)


def describe(error: errors.IlfError) -> dict[str, Any]:
    """An error as data."""
    data: dict[str, Any] = {
        "class": type(error).__name__,
        "reason": error.reason,
        "message": error.message,
        "metadata": error.metadata,
    }
    if isinstance(error, errors.InvalidArgumentError):
        data["violations"] = [{"field": v.field, "description": v.description} for v in error.violations]
    return data


def _wants(ctx: click.Context, option: str) -> bool:
    return bool(ctx.meta.get(f"ilf.{option}"))
