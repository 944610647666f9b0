from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Browser, expect

from tests.integration.console.browsing import Person
from tests.integration.console.world import World


def test_the_printed_address_signs_in_and_a_session_ends_with_the_sign_out(person: Callable[..., Person]) -> None:
    ann = person("Ann")
    ann.page.get_by_role("button", name="sign out").click()
    expect(ann.page.get_by_role("heading", name="Sign in")).to_be_visible()
    ann.open("/runs")
    assert ann.page.url == f"{ann.world.url}/login?next=/runs"


def test_a_wrong_token_is_refused(browser: Browser, world: World) -> None:
    stranger = Person.at(browser, world, "Eve")
    stranger.expect_complaints("status of 400")
    stranger.open("/login?token=guessed")
    expect(stranger.page.get_by_text("That token is not known")).to_be_visible()
    assert stranger.context.request.get(f"{world.url}/annotate", max_redirects=0).status == 303
    stranger.leave()
