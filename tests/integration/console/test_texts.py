"""What people and models write is shown on every page as text, however long and strange, and any field takes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.integration.console.browsing import Person
from tests.integration.console.world import World, judged_by, made_rows

STRANGE = '<script>alert(1)</script><img src=x onerror=alert(2)> \u202egnirts\u202c مرحبا {{ 7*7 }} & "quo\'tes"'
BELL = "\u0007"
LONG = "word " * 9_000 + "x" * 5_000
PAGES = (
    "/runs",
    "/runs/strange",
    "/runs/strange/samples?iteration=1",
    "/runs/strange/samples/plot?iteration=1",
    "/runs/strange/reliability",
    "/contrast?first=strange&second=strange",
    "/contrast/metrics?first=strange&second=strange",
    "/agreement?run=strange",
    "/compare?run=strange",
    "/review?run=strange",
    "/jobs",
    "/policies",
)


@pytest.fixture(scope="module")
def strange(world: World) -> Iterator[World]:
    """A run whose contexts, outputs, feedback, refinements and guidelines are strange, or 50,000 characters long."""
    rows = [{"id": "0", "context": f"{STRANGE}{BELL}"}, {"id": "1", "context": LONG}]
    people = {"guidelines": f"{STRANGE} {LONG[-15_000:]}", "reviews_per_item": 2}
    world.create_waiting("strange", rows, people=people, rank=judged_by(1))
    with world.client() as client:
        for task, text in zip(client.feedback.lease("Bob", run="strange", count=2).tasks, (STRANGE, LONG), strict=True):
            client.feedback.submit(task.name, "Bob", text)
    world.ended("runs/strange")
    yield world


def assert_harmless(page: Page) -> None:
    """Nothing of a text became an element, and the page is as wide as the screen."""
    assert page.locator("script:not([src]), img[src=x], [onerror]").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than the screen"


@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
def test_strange_and_long_texts_are_shown_as_texts(person: Callable[..., Person], strange: World, phone: bool) -> None:
    eve = person("Eve", phone=phone)
    for path in PAGES:
        page = eve.open(path)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        assert_harmless(page)
    page = eve.open("/runs/strange/samples?iteration=1&item=0")
    context = page.get_by_label("Context", exact=True)
    expect(context).to_contain_text("<script>alert(1)</script>")
    expect(context).to_contain_text("⟨U+202E⟩")
    expect(context).to_contain_text("␇")
    eve.open("/runs/strange/samples?iteration=1&item=1")
    expect(context).to_contain_text(LONG[-5_000:])


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("/runs", "Name or policy"),
        ("/runs/strange/samples?iteration=1", "Text"),
        ("/runs/strange/samples?iteration=1&item=0", "Item"),
        ("/runs/strange/samples?iteration=1&min_score=0", "Score from"),
        ("/contrast?first=strange", "Second run"),
        ("/policies", "Alias for strange/it-1"),
        ("/runs/new", "Name of the run"),
        ("/runs/new", "iterations"),
    ],
)
def test_a_strange_text_in_a_field_is_a_text(
    path: str, label: str, person: Callable[..., Person], strange: World
) -> None:
    eve = person("Eve")
    eve.expect_complaints("status of 40[04]")
    page = eve.open(path)
    with page.expect_navigation():
        page.get_by_label(label, exact=True).fill(STRANGE)
        page.get_by_label(label, exact=True).press("Enter")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert_harmless(page)


def test_a_strange_spec_is_refused_or_shown_as_it_was_typed(person: Callable[..., Person], strange: World) -> None:
    eve = person("Eve")
    eve.expect_complaints("status of 400")
    page = eve.open("/runs/new")
    page.get_by_role("button", name="Edit as YAML").click()
    for spec in (f"policy: {STRANGE!r}\n", "policy: &a [*a]\n", "policy: !!python/object:os.system x\n", LONG):
        page.get_by_label("Spec as YAML").fill(spec)
        page.get_by_role("button", name="Check").click()
        expect(page.get_by_text("Nothing was started.")).to_be_visible()
        expect(page.get_by_label("Spec as YAML")).to_have_value(spec.rstrip("\n") + "\n" * spec.endswith("\n"))
        assert_harmless(page)


@pytest.mark.parametrize("kind", ["strange", "long"])
def test_a_reason_arrives_as_it_was_typed(kind: str, person: Callable[..., Person], world: World) -> None:
    text = {"strange": STRANGE, "long": LONG}[kind]
    world.create_finished(f"reason-{kind}", made_rows("reason", 1))
    page = person("Ann").open(f"/compare?run=reason-{kind}")
    page.keyboard.press("t")
    page.get_by_label("Why?").fill(text)
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("heading", name="Nothing to do here now")).to_be_visible()
    assert_harmless(page)
    with world.client() as client:
        (task,) = client.answers.latest("Ann", run=f"runs/reason-{kind}")
    assert (task.preference.value, task.reason) == ("tie", text.strip())  # type: ignore[union-attr]


def test_a_control_character_in_a_reason_is_refused_beside_the_field(
    person: Callable[..., Person], world: World
) -> None:
    world.create_finished("bell", made_rows("bell", 1))
    ann = person("Ann")
    ann.expect_complaints("status of 400")
    page = ann.open("/compare?run=bell")
    page.keyboard.press("a")
    page.get_by_label("Why?").fill(f"a bell {BELL}")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("alert")).to_contain_text("U+0007")
    expect(page.get_by_label("Why?")).to_have_value(f"a bell {BELL}")


def test_a_name_that_cannot_be_seen_is_refused_at_the_sign_in(person: Callable[..., Person], world: World) -> None:
    eve = person("Eve")
    eve.expect_complaints("status of 400")
    eve.page.get_by_role("button", name="sign out").click()
    page = eve.open(world.place.sign_in_url.removeprefix(world.url))
    page.get_by_label("Your name").fill("E\u202eve")
    page.get_by_role("button", name="Come in").click()
    expect(page.get_by_text("Characters that cannot be seen are not allowed in a name.")).to_be_visible()
