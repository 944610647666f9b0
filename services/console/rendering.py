"""Pages out of templates. Autoescape is on for every template, and no value is ever marked as markup."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from ilf_client.humanize import duration, since
from services.console.identity import Role, user_or_none
from services.console.sessions import Session

FOLDER = Path(__file__).parent
_NOW_SECONDS = 10
_KEPT = "\n\t"
# They turn the order of the text that follows; what a person reads would not be what is there.
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def page(request: Request, template: str, *, status_code: int = 200, **values: Any) -> HTMLResponse:
    """Renders a template for whoever asks.

    Besides `values` templates know `request`, `user` (None before the sign-in), `Role`, `csrf()` (the hidden field for
    forms), `csrf_token`, and `flashes()` (messages of the request before, which
    are gone once they are asked for).

    Args:
        request: What is answered.
        template: File in `templates/`.
        status_code: Of the answer.
        values: For the template.
    """
    session = Session.of(request)
    token = session.csrf
    content = _ENVIRONMENT.get_template(template).render(
        request=request,
        user=user_or_none(request),
        csrf_token=token,
        csrf=lambda: Markup('<input type="hidden" name="csrf" value="{}">').format(token),
        flashes=lambda: session.values.pop("flashes", []),
        **values,
    )
    return HTMLResponse(content, status_code=status_code)


def flash(request: Request, message: str, kind: Literal["good", "bad"] = "good") -> None:
    """Shows a message on the next page that this person sees."""
    Session.of(request).values.setdefault("flashes", []).append({"message": message, "kind": kind})


def visible(text: str) -> str:
    """A text of people or models with its control characters made visible; line breaks and tabs stay."""
    return "".join(map(_visible, text)) if not text.isprintable() else text


def _visible(character: str) -> str:
    if character in _KEPT or (unicodedata.category(character) not in ("Cc", "Cs") and character not in _TURNING):
        return character
    code = ord(character)
    return chr(0x2400 + code) if code < 0x20 else f"⟨U+{code:04X}⟩"


def clock(moment: datetime | None) -> str:
    """A time as `2026-03-01 14:05 UTC`; a dash for none."""
    return "—" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def ago(moment: datetime | None) -> str:
    """How long ago; a dash for never."""
    if moment is None:
        return "—"
    return "just now" if (datetime.now(UTC) - moment).total_seconds() < _NOW_SECONDS else f"{since(moment)} ago"


def number(value: float | None, digits: int = 2) -> str:
    """A number with thousands apart and at most so many digits after the point; a dash for none."""
    if value is None or value != value:
        return "—"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share as a percentage; a dash for none."""
    return "—" if share is None or share != share else f"{share:.{digits}%}"


def resource_id(name: str) -> str:
    """The last part of a resource name, as in `runs/<id>`."""
    return name.rpartition("/")[2]


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        ago=ago, clock=clock, duration=duration, id=resource_id, number=number, percent=percent, visible=visible
    )
    environment.globals.update(Role=Role)
    return environment


_ENVIRONMENT = _environment()
