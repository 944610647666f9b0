"""Engineers walk every page: what it shows, what it changes, and that anybody can use it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import expect

from tests.integration.console.browsing import Person, accessibility_faults
from tests.integration.console.world import World, judged_by, made_rows

PAGES = {
    "runs": "/runs",
    "new-run": "/runs/new",
    "run": "/runs/done",
    "samples": "/runs/done/samples",
    "plot": "/runs/done/samples/plot",
    "reliability": "/runs/done/reliability",
    "contrast": "/contrast?first=done&first_iteration=1&second=done&second_iteration=2",
    "contrast-metrics": "/contrast/metrics?first=done&second=other",
    "jobs": "/jobs",
    "policies": "/policies",
    "promote": "/policies/promote?alias=live&name=done/it-1",
    "pools": "/pools",
    "agreement": "/agreement?run=done",
    "cancel": "/runs/waits/cancel",
    "compare": "/compare?run=done",
    "review": "/review?run=done",
    "nowhere": "/nowhere",
}


@pytest.fixture(scope="module")
def full(world: World) -> Iterator[World]:
    """Two runs that have ended, one of two iterations, and one that waits for people."""
    world.create_finished("done", made_rows("done", 24), iterations=2, rank=judged_by(3))
    world.create_finished("other", made_rows("other", 8), rank=judged_by(3))
    world.create_waiting("waits", made_rows("waits", 2))
    yield world


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_page_is_accessible_and_fits(name: str, dark: bool, person: Callable[..., Person], full: World) -> None:
    ann = person("Ann", dark=dark, phone=dark)
    if name == "nowhere":
        ann.expect_complaints("status of 404")
    page = ann.open(PAGES[name])
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert accessibility_faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than the screen"


@pytest.mark.parametrize("name", ["runs", "run", "samples", "policies", "jobs"])
def test_a_page_is_walked_by_keys_in_the_order_that_it_is_read(
    name: str, person: Callable[..., Person], full: World
) -> None:
    page = person("Ann").open(PAGES[name])
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="To the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    order = "document.querySelector('main').compareDocumentPosition(document.activeElement)"
    followed, contained = 4, 16
    page.keyboard.press("Tab")
    assert page.evaluate(order) & (followed | contained), "the content is not what comes after it"
    assert page.locator("[tabindex]:not([tabindex='0']):not([tabindex='-1'])").count() == 0, "an order of its own"


def test_a_run_leads_to_its_samples_and_back_by_links_that_can_be_shared(
    person: Callable[..., Person], full: World
) -> None:
    with full.client() as client:
        contexts = [sample.context for sample in client.runs.samples("done", iteration=1)]
    wanted = next(text for text in contexts if sum(text in other for other in contexts) == 1)
    ann = person("Ann")
    page = ann.open("/runs?text=done")
    page.get_by_role("link", name="done", exact=True).click()
    expect(page.get_by_role("heading", name="done")).to_be_visible()
    page.get_by_role("link", name="Samples", exact=True).click()
    page.get_by_role("combobox", name="Iteration").select_option("1")
    page.get_by_role("searchbox", name="Text").fill(wanted)
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.get_by_role("article")).to_have_count(1)
    expect(page.get_by_role("article").get_by_label("Refinement 1", exact=True)).to_be_visible()
    shared = ann.open_tab(page.url.removeprefix(full.url))
    expect(shared.get_by_role("article")).to_have_count(1)
    expect(shared.get_by_role("searchbox", name="Text")).to_have_value(wanted)


def test_a_point_of_the_plot_leads_to_its_sample(person: Callable[..., Person], full: World) -> None:
    page = person("Ann").open("/runs/done/samples/plot")
    points = page.locator("svg a")
    assert points.count() >= 10
    points.first.click()
    expect(page.get_by_role("article")).to_have_count(1)
    assert re.search(r"/runs/done/samples\?.*item=", page.url)


def test_conditions_narrow_what_is_shown_and_wrong_ones_are_told_beside_the_field(
    person: Callable[..., Person], full: World
) -> None:
    ann = person("Ann")
    ann.expect_complaints("status of 400")
    page = ann.open("/runs/done/samples?iteration=1&min_score=2")
    expect(page.get_by_role("heading", name="No sample is like that")).to_be_visible()
    page.goto(f"{full.url}/runs/done/samples?iteration=1&min_score=many")
    expect(page.get_by_label("Score from")).to_have_attribute("aria-invalid", "true")
    page.goto(f"{full.url}/runs/done/samples?iteration=1&text=' OR 1=1 --%25_")
    expect(page.get_by_role("heading", name="No sample is like that")).to_be_visible()


def test_a_promotion_asks_first_and_a_rollback_takes_it_back(person: Callable[..., Person], full: World) -> None:
    page = person("Ann").open("/policies")
    for version in ("done/it-1", "done/it-2"):
        page.get_by_label(f"Alias for {version}").fill("best")
        page.get_by_label(f"Alias for {version}").press("Enter")
        page.get_by_role("button", name=f"Point best at {version}").click()
        expect(page.get_by_text(f"best is now {version}")).to_be_visible()
        assert aliases(full) == {version: ["best"]}
        assert re.search(rf'"action": "promote", "resource": "{version}', full.log("console"))
    page.get_by_role("link", name="Roll back best").click()
    expect(page.get_by_role("heading", name="Roll best back to done/it-1?")).to_be_visible()
    assert aliases(full) == {"done/it-2": ["best"]}, "it goes back before it was told to"
    page.get_by_role("button", name="Roll best back").click()
    expect(page.get_by_text("best is done/it-1 again")).to_be_visible()
    assert aliases(full) == {"done/it-1": ["best"]}


def aliases(world: World) -> dict[str, list[str]]:
    """Aliases by the version that they point at."""
    with world.client() as client:
        return {policy.name: list(policy.aliases) for policy in client.policies.list() if policy.aliases}


def test_a_cancelled_run_says_so_and_the_log_tells_who_did_it(person: Callable[..., Person], world: World) -> None:
    world.create_waiting("dropped", made_rows("dropped", 1))
    page = person("Ann").open("/runs/dropped/cancel")
    page.get_by_role("button", name="Cancel the run").click()
    expect(page.get_by_text("cancelled").first).to_be_visible()
    assert re.search(r'"action": ?"cancel".*"runs/dropped"|"runs/dropped".*"action": ?"cancel"', world.log("console"))


def test_a_page_is_live_while_its_run_goes_on(person: Callable[..., Person], world: World) -> None:
    run = world.create_waiting("moving", made_rows("moving", 1))
    page = person("Ann").open("/runs/moving")
    expect(page.get_by_text("PEOPLE").first).to_be_visible()
    with world.client() as client:
        (task,) = client.feedback.lease("Bob", run=run.name).tasks
        client.feedback.submit(task.name, "Bob", "Shorter.")
    expect(page.get_by_text("succeeded").first).to_be_visible(timeout=60_000)


def test_comparisons_and_reviews_arrive_with_what_was_said(person: Callable[..., Person], full: World) -> None:
    page = person("Ann").open("/compare?run=other")
    page.keyboard.press("a")
    page.keyboard.press("Enter")
    expect(page.get_by_text("1 in the last hour")).to_be_visible()
    page.goto(f"{full.url}/review?run=other")
    page.keyboard.press("a")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Partly")).to_be_visible()
    with full.client() as client:
        said = {type(task).__name__: task for task in client.answers.latest("Ann", run="runs/other")}
    assert said["ComparisonTask"].preference.value == "a"  # type: ignore[union-attr]
    assert said["ReviewTask"].verdict.value == "partly"  # type: ignore[union-attr]
