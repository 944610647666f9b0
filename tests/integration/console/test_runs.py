"""Engineers start runs and look closer: from a form by a preview to the whole run, two runs side by side, plots."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import expect

from ilf_client.models.tasks import Verdict
from tests.integration.console.browsing import Person
from tests.integration.console.world import World, judged_by, made_rows


@pytest.fixture(scope="module")
def twins(world: World) -> Iterator[World]:
    """Two runs on the same dataset, whose samples differ."""
    world.create_finished("twin", made_rows("twin", 12), rank=judged_by(2))
    world.create_finished("twin-again", made_rows("twin", 12), rank=judged_by(2), seed=8)
    yield world


def test_the_form_leads_by_a_preview_to_the_whole_run(person: Callable[..., Person], twins: World) -> None:
    ann = person("Ann")
    ann.expect_complaints("status of 400")
    page = ann.open("/runs/twin")
    page.get_by_role("link", name="New run like this").click()
    page.get_by_label("Name of the run").fill("look-first")
    page.get_by_label("iterations", exact=True).fill("many")
    page.get_by_role("button", name="Preview first").click()
    expect(page.get_by_label("iterations", exact=True)).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_text("Nothing was started.")).to_be_visible()
    page.get_by_label("iterations", exact=True).fill("1")
    page.get_by_label("Rows of a preview").fill("4")
    page.get_by_role("button", name="Preview first").click()
    page.wait_for_url("**/runs/look-first")
    expect(page.get_by_text("preview of 4 rows")).to_be_visible()
    expect(page.get_by_role("heading", name="What the preview cost")).to_be_visible()
    page.get_by_role("link", name="Start the whole run").click()
    page.get_by_role("button", name="Edit as YAML").click()
    expect(page.get_by_label("Spec as YAML")).to_contain_text("train_uri: data/twin-train.jsonl")
    page.get_by_label("Name of the run").fill("whole")
    page.get_by_role("button", name="Start the whole run").click()
    page.wait_for_url("**/runs/whole")
    with twins.client() as client:
        looked, whole, like = (client.runs.get(name).spec for name in ("look-first", "whole", "twin"))
    assert (looked.preview_rows, whole.preview_rows) == (4, 0)
    assert (whole.seed, whole.dataset, whole.rank) == (like.seed, like.dataset, like.rank)


def test_two_runs_stand_side_by_side_on_the_same_contexts(person: Callable[..., Person], twins: World) -> None:
    page = person("Ann").open("/runs/twin")
    page.get_by_role("link", name="Contrast").click()
    page.get_by_label("Second run").fill("twin-again")
    page.get_by_role("button", name="Show side by side").click()
    expect(page.get_by_role("article")).to_have_count(10)
    one = page.get_by_role("article").first
    expect(one.get_by_role("link", name="twin, iteration 1", exact=True)).to_be_visible()
    expect(one.get_by_role("link", name="twin-again, iteration 1", exact=True)).to_be_visible()
    page.get_by_text("Metrics of both, with their differences").click()
    expect(page.get_by_role("cell", name=re.compile("[0-9]")).first).to_be_visible()
    page.get_by_role("link", name="Next page").click()
    expect(page.get_by_role("article")).to_have_count(2)


def test_reviews_of_people_show_whether_scores_mean_what_they_say(person: Callable[..., Person], twins: World) -> None:
    with twins.client() as client:
        for verdict in (Verdict.YES, Verdict.NO, Verdict.YES, Verdict.PARTLY):
            (task,) = client.reviews.lease("Bob", run="twin").tasks
            client.reviews.submit(task.name, "Bob", verdict)
    page = person("Ann").open("/runs/twin/reliability")
    expect(page.get_by_text("People say of 4 refinements")).to_contain_text("yes 50.0%, partly 25.0%, no 25.0%")
    for judge in ("judge-0", "judge-1"):
        expect(page.get_by_role("rowheader", name=judge)).to_be_visible()
    page.locator("figure svg a").first.click()
    expect(page.get_by_role("article").first).to_be_visible()
    assert re.search(r"/runs/twin/samples\?.*min_score=", page.url)


def test_a_job_shows_its_loss_from_the_first_step(person: Callable[..., Person], twins: World) -> None:
    with twins.client() as client:
        job = client.runs.get("twin").iterations[-1].finetune_job
    page = person("Ann").open("/jobs")
    page.get_by_role("link", name=job.removeprefix("jobs/")).click()
    expect(page.get_by_role("heading", name="Loss")).to_be_visible()
    page.get_by_text("As a table").click()
    expect(page.get_by_role("region", name="Loss by step").get_by_role("row").nth(1)).to_contain_text("1")


def test_runs_are_found_by_state_and_text(person: Callable[..., Person], twins: World) -> None:
    page = person("Ann").open("/runs")
    page.get_by_role("searchbox", name="Name or policy").fill("twin-ag")
    page.get_by_label("succeeded").check()
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_role("rowheader")).to_have_text(["twin-again"])
    page.get_by_label("succeeded").uncheck()
    page.get_by_label("failed").check()
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_role("heading", name="No run is like that")).to_be_visible()


def test_a_theme_stays_chosen(person: Callable[..., Person], twins: World) -> None:
    page = person("Ann").open("/runs")
    ground = "getComputedStyle(document.body).backgroundColor"
    bright = page.evaluate(ground)
    page.get_by_role("button", name="Theme").click()
    page.wait_for_function(f"{ground} !== '{bright}'")
    dark = page.evaluate(ground)
    page.reload()
    assert page.evaluate(ground) == dark


def test_a_cancelled_run_is_resumed_where_it_was(person: Callable[..., Person], world: World) -> None:
    eve = person("Eve")  # before the run: whoever comes in is given a task
    world.create_waiting("stopped", made_rows("stopped", 2))
    page = eve.open("/runs/stopped")
    with world.client() as client:
        (first,) = client.feedback.lease("Bob", run="stopped").tasks
        client.feedback.submit(first.name, "Bob", "Shorter.")
        page.get_by_role("link", name="Cancel").click()
        page.get_by_role("button", name="Cancel the run").click()
        expect(page.get_by_text("cancelled").first).to_be_visible()
        page.get_by_role("link", name="Resume").click()
        expect(page.get_by_text("The run goes on from its last finished shard")).to_be_visible()
        page.get_by_role("button", name="Resume the run").click()
        expect(page.get_by_text("stopped goes on.")).to_be_visible()
        expect(page.get_by_text("PEOPLE").first).to_be_visible()
        (second,) = client.feedback.lease("Bob", run="stopped", count=2).tasks
        client.feedback.submit(second.name, "Bob", "Kinder.")
        assert world.ended("runs/stopped").state.value == "succeeded"
        assert [sample.feedback for sample in client.runs.samples("stopped", iteration=1)] == ["Shorter.", "Kinder."]
    page.goto(f"{world.url}/runs/stopped/resume")
    expect(page.get_by_text("only a run that failed or was cancelled can be resumed")).to_be_visible()
    for action in ("cancel", "resume"):
        assert re.search(rf'"who": "Eve".*"action": "{action}", "resource": "runs/stopped"', world.log("console"))
