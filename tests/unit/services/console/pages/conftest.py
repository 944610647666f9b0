"""The engineers' pages over a client whose runs lie in memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from starlette.testclient import TestClient

from services.console.app import build_app
from services.console.settings import ConsoleSettings
from tests.fakes.engineer_client import EngineerClient
from tests.unit.services.console.conftest import TOKENS

_CSRF = re.compile(r'name="csrf-token" content="([^"]+)"')


@dataclass
class Engineer:
    """An engineer's browser, signed in.

    Attributes:
        http: Keeps the cookies.
        client: What the pages stand on.
    """

    http: TestClient
    client: EngineerClient

    def get(self, path: str, accept: str = "text/html") -> Any:
        return self.http.get(path, headers={"accept": accept}, follow_redirects=False)

    def text(self, path: str, status: int = 200) -> str:
        """The page's source, which has to come with this status."""
        answer = self.get(path)
        assert answer.status_code == status, answer.text
        return str(answer.text)

    def post(self, path: str, **fields: str) -> Any:
        found = _CSRF.search(self.text("/pools"))
        assert found is not None
        form = {"csrf": found[1], **fields}
        return self.http.post(path, data=form, headers={"accept": "text/html"}, follow_redirects=False)


OpenEngineer = Callable[[str], Engineer]


@pytest.fixture
def open_engineer(settings: ConsoleSettings) -> Iterator[OpenEngineer]:
    """Opens a console whose texts hold what is given."""
    with ExitStack() as stack:

        def open_one(text: str) -> Engineer:
            client = EngineerClient(text)
            app = build_app(settings, lambda: client)  # type: ignore[arg-type,return-value]
            http = stack.enter_context(TestClient(app))
            found = _CSRF.search(http.get("/login", headers={"accept": "text/html"}).text)
            assert found is not None
            http.post("/login", data={"token": TOKENS["engineer"], "csrf": found[1]}, follow_redirects=False)
            return Engineer(http, client)

        yield open_one


@pytest.fixture
def engineer(open_engineer: OpenEngineer) -> Engineer:
    """Eve's browser."""
    return open_engineer("")
