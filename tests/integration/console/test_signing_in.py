"""Who comes in, by each of the three ways, and who is kept out of what."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from oidc_provider_mock import User, run_server_in_thread
from playwright.sync_api import Browser, expect

from tests.integration.console.browsing import Person, accessibility_faults
from tests.integration.console.world import World, made_rows

TOKENS = {"Ann": "token-of-ann", "Eve": "token-of-eve"}
MEMBERS = [
    User(sub="1", claims={"preferred_username": "Ann", "groups": ["labels"]}),
    User(sub="2", claims={"preferred_username": "Eve", "groups": ["labels", "ml"]}),
    User(sub="3", claims={"preferred_username": "Joe", "groups": ["sales"]}),
]
FOR_ENGINEERS = (
    "/runs",
    "/runs/new",
    "/runs/kept",
    "/runs/kept/cancel",
    "/runs/kept/samples",
    "/runs/kept/reliability",
    "/contrast",
    "/jobs",
    "/policies",
    "/policies/promote?alias=live&name=kept/it-1",
    "/pools",
    "/agreement",
    "/agreement/answers?run=kept",
)


@pytest.fixture
def stranger(browser: Browser) -> Iterator[Callable[[World], Person]]:
    """Makes people who are not signed in; a complaint of anybody's browser fails the test."""
    people: list[Person] = []

    def come(at: World) -> Person:
        people.append(Person.at(browser, at, "stranger"))
        return people[-1]

    yield come
    for one in people:
        one.leave()


@pytest.fixture
def with_accounts(own_world: World) -> World:
    """A console with two named accounts, an annotator and an engineer."""
    accounts: list[dict[str, Any]] = []
    for (name, token), role in zip(TOKENS.items(), ("annotator", "engineer"), strict=True):
        file = own_world.folder / f"{name}.token"
        file.write_text(token, encoding="utf-8")
        accounts.append({"name": name, "role": role, "token_file": str(file)})
    own_world.console = {"accounts": accounts}
    own_world.start()
    return own_world


@pytest.fixture
def with_provider(own_world: World) -> Iterator[World]:
    """A console whose people sign in with a provider of OpenID Connect."""
    with run_server_in_thread(require_nonce=True, user_claims=MEMBERS) as server:
        secret = own_world.folder / "client-secret"
        secret.write_text("of the client", encoding="utf-8")
        own_world.console = {
            "oidc": {
                "issuer": f"http://localhost:{server.server_port}",
                "client_id": "ilf",
                "client_secret_file": str(secret),
                "engineers": ["ml"],
                "annotators": ["labels"],
            }
        }
        own_world.start()
        yield own_world


def come_in_by_token(person: Person, token: str) -> None:
    person.open("/")
    person.page.get_by_label("Token").fill(token)
    person.page.get_by_role("button", name="Come in").click()


def ask_provider(person: Person, path: str) -> None:
    """Opens a page, and follows it to the provider's sign-in."""
    person.context.route("**/*.css", lambda route: route.fulfill(body="", content_type="text/css"))
    person.open(path)
    person.page.get_by_role("link", name="Sign in with your organisation").click()


def test_the_printed_address_signs_in_and_a_session_ends_with_the_sign_out(person: Callable[..., Person]) -> None:
    ann = person("Ann")
    ann.page.get_by_role("button", name="sign out").click()
    expect(ann.page.get_by_role("heading", name="Sign in")).to_be_visible()
    ann.open("/runs")
    assert ann.page.url == f"{ann.world.url}/login?next=/runs"


def test_a_wrong_token_is_refused(stranger: Callable[[World], Person], world: World) -> None:
    eve = stranger(world)
    eve.expect_complaints("status of 400")
    eve.open("/login?token=guessed")
    expect(eve.page.get_by_text("That token is not known")).to_be_visible()
    assert eve.context.request.get(f"{world.url}/annotate", max_redirects=0).status == 303


def test_an_account_comes_in_under_its_name_and_annotators_see_their_pages_alone(
    with_accounts: World, stranger: Callable[[World], Person]
) -> None:
    with_accounts.create_waiting("kept", made_rows("kept", 1))
    ann = stranger(with_accounts)
    ann.expect_complaints("status of 403")
    come_in_by_token(ann, TOKENS["Ann"])
    page = ann.page
    expect(page.get_by_role("heading", name="Annotate")).to_be_visible()
    expect(page.get_by_role("navigation", name="Pages").get_by_role("link")).to_have_text(
        ["Annotate", "Compare", "Review"]
    )
    for path in FOR_ENGINEERS:
        ann.open(path)
        expect(page.get_by_role("heading", name="You may not do that")).to_be_visible()
        expect(page.get_by_text("This page is for engineers; you are signed in as Ann, annotator.")).to_be_visible()
        assert accessibility_faults(page) == []
    ann.open("/annotate")
    cancelled = page.evaluate(
        """async () => (await fetch("/runs/kept/cancel", {
          method: "POST", headers: {"x-csrf": document.querySelector("meta[name=csrf-token]").content},
        })).status"""
    )
    assert cancelled == 403
    with with_accounts.client() as client:
        assert client.runs.get("kept").state.value == "waiting"


def test_an_engineer_s_account_sees_all_pages(with_accounts: World, stranger: Callable[[World], Person]) -> None:
    eve = stranger(with_accounts)
    come_in_by_token(eve, TOKENS["Eve"])
    expect(eve.page.get_by_role("heading", name="Runs", exact=True)).to_be_visible()
    expect(eve.page.get_by_role("navigation", name="Pages").get_by_role("link")).to_have_count(8)


def test_a_provider_s_word_leads_back_to_the_page_that_was_asked_for(
    with_provider: World, stranger: Callable[[World], Person]
) -> None:
    with_provider.create_waiting("asked", made_rows("asked", 1))
    ann = stranger(with_provider)
    ann.expect_complaints("status of 403")
    ask_provider(ann, "/annotate?run=asked")
    ann.page.get_by_role("button", name="1", exact=True).click()
    ann.page.wait_for_url(f"{with_provider.url}/annotate?run=asked")
    ann.page.get_by_label("What is wrong with the output").fill("Said by Ann of the provider.")
    ann.page.keyboard.press("Control+Enter")
    expect(ann.page.get_by_role("heading", name="Nothing to do here now")).to_be_visible()
    with with_provider.client() as client:
        assert [task.feedback for task in client.feedback.show(run="asked") if task.annotator == "Ann"]
    ann.open("/runs")
    expect(ann.page.get_by_text("you are signed in as Ann, annotator")).to_be_visible()


def test_groups_of_the_provider_make_engineers_and_strangers_stay_outside(
    with_provider: World, stranger: Callable[[World], Person]
) -> None:
    eve, joe = stranger(with_provider), stranger(with_provider)
    joe.expect_complaints("status of 403", "status of 401")
    ask_provider(eve, "/runs")
    eve.page.get_by_role("button", name="2", exact=True).click()
    expect(eve.page.get_by_role("heading", name="Runs", exact=True)).to_be_visible()
    ask_provider(joe, "/runs")
    joe.page.get_by_role("button", name="3", exact=True).click()
    expect(joe.page.get_by_text("You are known as Joe, but have no role here.")).to_be_visible()
    ask_provider(joe, "/runs")
    joe.page.get_by_role("button", name="Deny").click()
    expect(joe.page.get_by_text("The sign-in was not finished")).to_be_visible()
    joe.open("/runs")
    expect(joe.page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert re.search(r'"by": ?"oidc"', with_provider.log("console"))


def test_secrets_of_a_sign_in_stand_in_no_log(with_accounts: World, stranger: Callable[[World], Person]) -> None:
    come_in_by_token(stranger(with_accounts), TOKENS["Ann"])
    log = with_accounts.log("console")
    assert re.search(r'"action": ?"login"', log)
    assert not any(token in log for token in TOKENS.values())
    assert Path(with_accounts.folder / "console" / "session-key").read_text(encoding="utf-8") not in log
