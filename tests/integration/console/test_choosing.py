"""Comparing and reviewing by keys: what becomes of the answers, and tasks that several people are asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import expect

from tests.integration.console.browsing import Person
from tests.integration.console.commanding import run_command
from tests.integration.console.world import World, judged_by, made_rows


def exported(world: World, run: str, kind: str, folder: Path) -> list[dict[str, Any]]:
    """What the command takes out of a run."""
    run_command(world, f"ilf runs export {run} --kind {kind} --output {kind}.jsonl", folder)
    return [json.loads(line) for line in (folder / f"{kind}.jsonl").read_text(encoding="utf-8").splitlines()]


def test_comparisons_become_preferences_whichever_side_each_sample_was_on(
    person: Callable[..., Person], world: World, tmp_path: Path
) -> None:
    world.create_finished("pairs", made_rows("pairs", 6), rank=judged_by(1))
    page = person("Ann").open("/compare?run=pairs")
    better: dict[str, str] = {}
    for done, key in enumerate("aabbta", start=1):
        shown = {side: page.get_by_label(f"Output {side.upper()}", exact=True).text_content() or "" for side in "ab"}
        if key != "t":
            better[shown[key]] = shown["b" if key == "a" else "a"]
        page.keyboard.press(key)
        page.keyboard.press("Enter")
        expect(page.locator(".last li")).to_have_count(done)
    expect(page.get_by_role("heading", name="Nothing to do here now")).to_be_visible()
    rows = exported(world, "pairs", "comparisons", tmp_path)
    assert {row["chosen"]: row["rejected"] for row in rows} == better
    with world.client() as client:
        tasks = list(client.comparisons.show(run="pairs"))
        samples = {sample.item_id: sample for sample in client.runs.samples("pairs", iteration=1)}
    for task in tasks:  # the order that was shown is recorded
        texts = [candidate.text for candidate in samples[task.item_id].candidates]
        assert (texts[task.candidate_a], texts[task.candidate_b]) == (task.output_a, task.output_b)
    assert {task.candidate_a < task.candidate_b for task in tasks} == {True, False}


def test_reviews_become_labels_that_judges_are_measured_on(
    person: Callable[..., Person], world: World, tmp_path: Path
) -> None:
    world.create_finished("labels", made_rows("labels", 3), rank=judged_by(1))
    page = person("Ann").open("/review?run=labels")
    for done, key in enumerate("yan", start=1):
        page.keyboard.press(key)
        page.keyboard.press("Enter")
        expect(page.locator(".last li")).to_have_count(done)
    rows = exported(world, "labels", "reviews", tmp_path)
    assert sorted(row["incorporated"] for row in rows) == ["no", "partly", "yes"]
    page = person("Eve").open("/runs/labels/reliability")
    expect(page.get_by_text("People say of 3 refinements")).to_contain_text("yes 33.3%, partly 33.3%, no 33.3%")


def test_a_choice_is_changed_skipped_and_asked_for(person: Callable[..., Person], world: World) -> None:
    world.create_finished("choices", made_rows("choices", 3), rank=judged_by(1))
    page = person("Ann").open("/review?run=choices")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("Say first whether the feedback is in it.")
    page.keyboard.press("y")
    page.keyboard.press("Enter")
    expect(page.locator(".last li")).to_have_count(1)
    page.keyboard.press("p")
    expect(page.get_by_text("You are changing an answer")).to_be_visible()
    page.keyboard.press("n")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="No", exact=True)).to_be_visible()
    before = page.get_by_label("Context", exact=True).text_content()
    page.keyboard.press("s")
    expect(page.get_by_label("Context", exact=True)).not_to_have_text(before or "")
    with world.client() as client:
        (task,) = client.answers.latest("Ann", run="runs/choices")
    assert task.verdict.value == "no"  # type: ignore[union-attr]


def test_several_people_get_the_same_item_where_the_run_asks_for_it(
    person: Callable[..., Person], world: World
) -> None:
    ann, bob, eve = person("Ann"), person("Bob"), person("Eve")
    world.create_waiting("both", made_rows("both", 1), feedback={"source": "people", "annotators_per_item": 2})
    for one in (ann, bob):
        page = one.open("/annotate?run=both")
        expect(page.get_by_label("Context", exact=True)).to_contain_text("both context 0")
        page.get_by_label("What is wrong with the output").fill(f"Said by {one.name}.")
        page.keyboard.press("Control+Enter")
        expect(page.get_by_role("heading", name="Nothing to do here now")).to_be_visible()
    expect(eve.open("/annotate?run=both").get_by_role("heading", name="Nothing to do here now")).to_be_visible()
    assert world.ended("runs/both").state.value == "succeeded"
    with world.client() as client:
        given = [sample.feedback for sample in client.runs.samples("both", iteration=1)]
        said = sorted(task.feedback for task in client.feedback.show(run="both"))
    assert said == ["Said by Ann.", "Said by Bob."]
    assert given == ["Said by Ann.\nSaid by Bob."]
