"""The console's pages over a client whose tasks lie in memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from services.console.app import build_app
from services.console.settings import AccountSettings, ConsoleSettings, ServicesSettings
from tests.fakes.console_client import FakeClient

TOKENS = {"annotator": "token-of-the-annotator", "engineer": "token-of-the-engineer"}
# Nobody listens there: the services' health is asked for where one of them does not answer.
_NOWHERE = "127.0.0.1:9"
_CSRF = re.compile(r'name="csrf-token" content="([^"]+)"')


@dataclass
class Browser:
    """A person's browser.

    Attributes:
        http: Keeps the cookies.
        client: What the pages stand on.
    """

    http: TestClient
    client: FakeClient

    def get(self, path: str, **options: Any) -> Any:
        return self.http.get(path, headers={"accept": "text/html"}, follow_redirects=False, **options)

    def csrf(self, path: str = "/login") -> str:
        found = _CSRF.search(self.http.get(path, headers={"accept": "text/html"}).text)
        assert found is not None
        return found[1]

    def sign_in(self, token: str, **fields: str) -> Any:
        form = {"token": token, "csrf": self.csrf(), **fields}
        return self.http.post("/login", data=form, headers={"accept": "text/html"}, follow_redirects=False)

    def post(self, path: str, body: Any) -> Any:
        headers = {"accept": "application/json", "x-csrf": self.csrf("/annotate")}
        return self.http.post(path, json=body, headers=headers, follow_redirects=False)


Open = Callable[..., Browser]


@pytest.fixture
def settings(tmp_path: Path) -> ConsoleSettings:
    for role, token in TOKENS.items():
        (tmp_path / role).write_text(f"{token}\n", encoding="utf-8")
    return ConsoleSettings(
        state_dir=tmp_path,
        accounts=tuple(
            AccountSettings(name=name, role=role, token_file=tmp_path / role)
            for name, role in (("Ana", "annotator"), ("Eve", "engineer"))
        ),
        services=ServicesSettings(
            **dict.fromkeys(("refinement", "ranking", "reward", "finetune"), _NOWHERE)
        ).model_copy(update={"orchestrator": _NOWHERE}),
    )


@pytest.fixture
def open_browser(settings: ConsoleSettings) -> Iterator[Open]:
    """Opens a browser at a console of its own; by default the annotator is signed in."""
    with ExitStack() as stack:

        def open_one(role: str | None = "annotator", text: str = "", **changes: Any) -> Browser:
            client = FakeClient(text)
            app = build_app(settings.model_copy(update=changes), lambda: client)  # type: ignore[arg-type,return-value]
            browser = Browser(stack.enter_context(TestClient(app, raise_server_exceptions=False)), client)
            if role is not None:
                assert browser.sign_in(TOKENS[role]).status_code == 303
            return browser

        yield open_one


@pytest.fixture
def annotator(open_browser: Open) -> Browser:
    """Ana's browser."""
    return open_browser()


@pytest.fixture
def engineer(open_browser: Open) -> Browser:
    """Eve's browser."""
    return open_browser("engineer")
