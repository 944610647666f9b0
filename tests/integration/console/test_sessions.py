"""What ends under an open page, and what another site tries: nothing typed is lost, nothing forged is done."""

from __future__ import annotations

import json
import time
from base64 import b64decode, b64encode
from collections.abc import Callable

from itsdangerous import TimestampSigner
from playwright.sync_api import expect

from tests.integration.console.browsing import Person
from tests.integration.console.tls import ending_tls
from tests.integration.console.world import World, made_rows
from tests.support import free_ports

QUESTION = "What is wrong with the output"
TEXT = "Typed before the session ended."


def age(person: Person, hours: float) -> None:
    """Makes the person's session so much older, as if nobody had been there meanwhile."""
    (cookie,) = person.context.cookies()
    signer = TimestampSigner((person.world.folder / "console" / "session-key").read_text(encoding="utf-8"))
    values = json.loads(b64decode(signer.unsign(cookie["value"])))
    values |= {name: values[name] - int(hours * 3600) for name in ("since", "seen")}
    cookie["value"] = signer.sign(b64encode(json.dumps(values).encode())).decode()
    person.context.add_cookies([cookie])  # type: ignore[list-item]


def test_a_session_that_ended_under_an_open_page_costs_nothing_that_was_typed(
    person: Callable[..., Person], world: World
) -> None:
    world.create_waiting("over", made_rows("over", 2))
    ann = person("Ann")
    ann.expect_complaints("status of 401")
    page = ann.open("/annotate?run=over")
    page.get_by_label(QUESTION).fill(TEXT)
    age(ann, hours=13)
    page.get_by_label(QUESTION).press("Control+Enter")
    expect(page.get_by_text("You are not signed in, or were signed out meanwhile.")).to_be_visible()
    page.get_by_role("link", name="Sign in; the draft is kept").click()
    page.get_by_label("Token").fill((world.folder / "console" / "token").read_text(encoding="utf-8"))
    page.get_by_label("Your name").fill("Ann")
    page.get_by_role("button", name="Come in").click()
    expect(page.get_by_label(QUESTION)).to_have_value(TEXT)
    page.get_by_label(QUESTION).press("Control+Enter")
    expect(page.get_by_label("Context", exact=True)).to_contain_text("over context 1")
    with world.client() as client:
        (task,) = client.answers.latest("Ann", run="runs/over")
    assert task.feedback == TEXT  # type: ignore[union-attr]


def test_a_live_page_says_that_its_session_ended(person: Callable[..., Person], world: World) -> None:
    world.create_waiting("watched", made_rows("watched", 1))
    ann = person("Ann")
    ann.expect_complaints("status of 401")
    page = ann.open("/runs/watched")
    expect(page.get_by_text("PEOPLE").first).to_be_visible()
    age(ann, hours=13)
    page.get_by_role("link", name="Sign in", exact=True).click()
    expect(page.get_by_role("heading", name="Sign in", exact=True)).to_be_visible()
    assert page.url.endswith("/login?next=%2Fruns%2Fwatched")


def test_a_session_in_use_does_not_end(person: Callable[..., Person], world: World) -> None:
    ann = person("Ann")
    for _ in range(3):
        age(ann, hours=11)
        ann.open("/runs")
        expect(ann.page.get_by_role("heading", name="Runs", exact=True)).to_be_visible()


def test_a_page_of_an_older_session_is_refused_and_keeps_what_was_typed(
    person: Callable[..., Person], world: World
) -> None:
    world.create_waiting("older", made_rows("older", 2))
    ann = person("Ann")
    ann.expect_complaints("status of 403")
    page, tab = ann.open("/annotate?run=older"), ann.open_tab("/annotate?run=older")
    page.get_by_label(QUESTION).fill(TEXT)
    tab.get_by_role("button", name="sign out").click()
    ann.sign_in(tab)
    expect(tab.get_by_role("heading", name="Annotate")).to_be_visible()
    page.get_by_label(QUESTION).press("Control+Enter")
    expect(page.get_by_text("This page is older than your session.")).to_be_visible()
    page.get_by_role("link", name="Load the page again").click()
    expect(page.get_by_label(QUESTION)).to_have_value(TEXT)
    page.get_by_label(QUESTION).press("Control+Enter")
    expect(page.get_by_label("Context", exact=True)).to_contain_text("older context 1")


def test_a_form_of_another_site_changes_nothing(person: Callable[..., Person], world: World) -> None:
    world.create_waiting("forged", made_rows("forged", 1))
    ann = person("Ann")
    ann.expect_complaints("status of 40[13]")
    forged = f'<form method="post" action="{world.url}/runs/forged/cancel"><button>Win</button></form>'
    page = ann.page
    # Another port of this host gets the cookie too; another host does not.
    for site, told in (("http://127.0.0.1:9", "came from another site"), ("http://evil.test", "not signed in")):
        page.route(f"{site}/**", lambda route: route.fulfill(body=forged, content_type="text/html"))
        page.goto(f"{site}/")
        page.get_by_role("button", name="Win").click()
        expect(page.get_by_text(told)).to_be_visible()
    with world.client() as client:
        assert client.runs.get("forged").state.value == "waiting"


def test_no_other_site_can_show_the_console_in_a_frame(person: Callable[..., Person], world: World) -> None:
    ann = person("Ann")
    ann.expect_complaints("frame-ancestors", "ERR_BLOCKED_BY_RESPONSE")
    page = ann.page
    framed = f'<iframe title="prize" src="{world.url}/runs"></iframe>'
    page.route("http://127.0.0.1:9/**", lambda route: route.fulfill(body=framed, content_type="text/html"))
    page.goto("http://127.0.0.1:9/")
    expect(page.frame_locator("iframe").get_by_role("heading", name="Runs", exact=True)).to_have_count(0)
    assert all(not frame.url.startswith(world.url) for frame in page.frames)


def test_behind_tls_the_session_is_a_cookie_that_no_script_and_no_plain_connection_sees(
    own_world: World, person: Callable[..., Person]
) -> None:
    (own_world.https_port,) = free_ports(1)
    with ending_tls(own_world.https_port, own_world.place.address, own_world.folder):
        own_world.start()
        ann = person("Ann", own_world)
        own_world.create_waiting("secure", made_rows("secure", 2))
        page = ann.open("/annotate?run=secure")
        page.get_by_label(QUESTION).fill("Through TLS.")
        page.keyboard.press("Control+Enter")
        expect(page.get_by_label("Context", exact=True)).to_contain_text("secure context 1")
        assert page.evaluate("document.cookie") == ""
        (cookie,) = ann.context.cookies()
        assert cookie["name"].startswith("__Host-")
        assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (True, True, "Lax")
        assert cookie["expires"] <= time.time() + 7 * 24 * 3600
        answered = page.reload()
        assert answered is not None
        assert "max-age=31536000" in answered.headers["strict-transport-security"]
        ann.leave()
