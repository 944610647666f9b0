"""Accounts of this machine: whoever has the token comes in."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.console.identity import Role
from services.console.sessions import kept_secret, read_secret
from services.console.settings import ConsoleSettings


@dataclass(frozen=True)
class Account:
    """An account.

    Attributes:
        name: Whose it is; empty where each person says a name at the sign-in.
        role: What it may do.
        token: What signs in.
    """

    name: str
    role: Role
    token: str = field(repr=False)


def accounts_of(settings: ConsoleSettings) -> list[Account]:
    """The accounts that the settings name; without any, and without a provider, the machine's own one.

    Raises:
        FailedPreconditionError: reason FILE_UNREADABLE; a token file cannot be read.
    """
    named = [Account(one.name, Role[one.role.upper()], read_secret(one.token_file)) for one in settings.accounts]
    if named or settings.oidc is not None:
        return named
    return [Account("", Role.ENGINEER, kept_secret(settings.token_file))]
