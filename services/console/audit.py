"""Who did what: one structured log line per change. Names of resources stand in it, texts of people never."""

from __future__ import annotations

import logging

from starlette.requests import Request

from services.console.identity import user

_LOG = logging.getLogger("ilf.console.audit")


def record(request: Request, action: str, resource: str, **facts: str | int) -> None:
    """Writes the line.

    Args:
        request: Of the person who did it.
        action: What was done: `submit`, `skip`, `promote`, `rollback`, `cancel`, `resume`, `start`, `login`, …
        resource: Name of what it was done to, as `runs/<id>`.
        facts: Small facts that go with it; no texts.
    """
    who = user(request)
    extra = {"who": who.name, "role": who.role.label, "action": action, "resource": resource, **facts}
    _LOG.info("%s %s", action, resource, extra=extra)
