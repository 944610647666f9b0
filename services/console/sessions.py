"""What a browser's signed cookie holds. The console itself remembers nobody."""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request

from ilf_common.errors import FailedPreconditionError
from services.console.settings import ConsoleSettings, SessionSettings

_LEAST_KEY_BYTES = 32
_TOUCH_SECONDS = 300


@dataclass(frozen=True)
class Session:
    """A typed view of the cookie's values.

    Attributes:
        values: What the cookie holds; changes are sent back to the browser.
    """

    values: dict[str, Any]

    @classmethod
    def of(cls, request: Request) -> Session:
        """The session of the browser that asks."""
        return cls(request.session)

    @property
    def name(self) -> str:
        """Whose session it is; empty before the sign-in."""
        return str(self.values.get("name", ""))

    @property
    def role(self) -> str:
        """The role's label."""
        return str(self.values.get("role", ""))

    @property
    def csrf(self) -> str:
        """The token that forms carry; made at first use."""
        if "csrf" not in self.values:
            self.values["csrf"] = secrets.token_urlsafe(32)
        return str(self.values["csrf"])

    def begin(self, name: str, role: str) -> None:
        """Signs a person in; nothing of what was before is kept."""
        now = int(time.time())
        self.values.clear()
        self.values.update(name=name, role=role, since=now, seen=now, csrf=secrets.token_urlsafe(32))

    def end(self) -> None:
        """Signs the person out."""
        self.values.clear()

    def is_alive(self, settings: SessionSettings) -> bool:
        """Whether somebody is signed in, and was so recently enough."""
        if not self.name:
            return False
        now = time.time()
        idle, age = now - float(self.values["seen"]), now - float(self.values["since"])
        return idle < settings.idle_hours * 3600 and age < settings.longest_hours * 3600

    def touch(self) -> None:
        """Notes that the person is there; the cookie is renewed once in a few minutes."""
        now = int(time.time())
        if now - int(self.values["seen"]) >= _TOUCH_SECONDS:
            self.values["seen"] = now


def session_middleware(settings: ConsoleSettings, key: str) -> Middleware:
    """Reads and writes the cookie: signed, out of reach for scripts, sent to no other site."""
    name = f"ilf_console_{settings.server.port}"  # cookies know no ports: two consoles of a machine need two names
    return Middleware(
        SessionMiddleware,
        secret_key=key,
        session_cookie=f"__Host-{name}" if settings.server.is_https else name,
        max_age=int(settings.session.longest_hours * 3600),
        same_site="lax",
        https_only=settings.server.is_https,
    )


def session_key(settings: ConsoleSettings) -> str:
    """The key that signs sessions.

    Raises:
        FailedPreconditionError: reason FILE_UNREADABLE or KEY_TOO_SHORT.
    """
    file = settings.session.key_file
    key = read_secret(file) if file else kept_secret(settings.state_dir / "session-key")
    if len(key) < _LEAST_KEY_BYTES:
        raise FailedPreconditionError(
            f"The key in {file} has {len(key)} characters; at least {_LEAST_KEY_BYTES} are needed. "
            "Make one with `openssl rand -hex 32`.",
            reason="KEY_TOO_SHORT",
        )
    return key


def read_secret(file: Path) -> str:
    """A secret from its file, without blanks around it.

    Raises:
        FailedPreconditionError: reason FILE_UNREADABLE.
    """
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise FailedPreconditionError(f"{file} cannot be read.", reason="FILE_UNREADABLE") from error


def kept_secret(file: Path) -> str:
    """A secret that is made at the first start, for its owner's eyes only, and kept over restarts."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(secrets.token_urlsafe(32))
    return read_secret(file)
