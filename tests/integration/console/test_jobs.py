"""Engineers look at a training while it goes on, and end it."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.integration.console.browsing import Person, accessibility_faults
from tests.integration.console.world import World, made_rows


def job_page(eve: Person, run: str) -> Page:
    """The page of the job that the run waits for."""
    page = eve.open(f"/runs/{run}")
    page.get_by_role("link", name="finetune job").click()
    expect(page.get_by_text("running").first).to_be_visible()
    return page


def test_the_loss_of_a_job_comes_as_it_trains(own_world: World, person: Callable[..., Person]) -> None:
    own_world.start()
    own_world.hold_jobs(1)
    own_world.create("trains", made_rows("trains", 2), feedback={"source": "plugin", "plugin_address": own_world.peers})
    page = job_page(person("Eve", own_world), "trains")
    expect(page.get_by_text("The loss is drawn here from the second step on.")).to_be_visible()
    expect(page.get_by_text("1 of 3")).to_be_visible()
    own_world.hold_jobs(2)
    expect(page.get_by_role("heading", name="Loss")).to_be_visible()
    page.get_by_text("As a table").click()
    expect(page.get_by_role("region", name="Loss by step").get_by_role("row")).to_have_count(3)
    assert accessibility_faults(page) == []
    own_world.hold_jobs(None)
    expect(page.get_by_text("succeeded")).to_be_visible()
    expect(page.get_by_role("region", name="Loss by step").get_by_role("row")).to_have_count(4)
    assert own_world.ended("runs/trains").state.value == "succeeded"


def test_a_job_is_cancelled_when_that_was_asked_and_its_run_says_so(
    own_world: World, person: Callable[..., Person]
) -> None:
    own_world.start()
    own_world.hold_jobs(1)
    own_world.create("ends", made_rows("ends", 2), feedback={"source": "plugin", "plugin_address": own_world.peers})
    page = job_page(person("Eve", own_world), "ends")
    page.get_by_role("link", name="Cancel").click()
    expect(page.get_by_text("what it has learned so far is not published")).to_be_visible()
    with own_world.client() as client:
        assert client.runs.get("ends").state.is_final is False
        page.get_by_role("button", name="Cancel the job").click()
        expect(page.get_by_text("is cancelled.")).to_be_visible()
    assert own_world.ended("runs/ends").state.value == "failed"
    page.goto(f"{own_world.url}/runs/ends")
    expect(page.get_by_text("FINETUNE").first).to_be_visible()
    assert '"action": "cancel", "resource": "jobs/' in own_world.log("console")
