from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.integration.console.browsing import Person, open_browser
from tests.integration.console.world import World


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One console and its services for all tests; each test makes runs of its own."""
    here = World(tmp_path_factory.mktemp("console"))
    try:
        here.start()
        yield here
    finally:
        here.stop()


@pytest.fixture
def own_world(tmp_path: Path) -> Iterator[World]:
    """A console whose processes the test may kill; not started yet. Asked for before `person`, it outlives browsers."""
    here = World(tmp_path)
    yield here
    here.stop()


# One a module: while a synchronous browser is open, no test of its process can run an event loop of its own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


@pytest.fixture
def person(browser: Browser, world: World) -> Iterator[Callable[..., Person]]:
    """Makes people, signed in; a complaint of anybody's browser fails the test."""
    people: list[Person] = []

    def come(name: str, at: World = world, **options: Any) -> Person:
        people.append(Person.at(browser, at, name, **options))
        return people[-1].sign_in()

    yield come
    for one in people:
        one.leave()
