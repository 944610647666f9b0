"""Answers of people leave and enter the console as files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from playwright.sync_api import expect

from tests.integration.console.browsing import Person
from tests.integration.console.world import World, made_rows


def test_feedback_that_was_given_in_argilla_goes_into_the_run(person: Callable[..., Person], world: World) -> None:
    eve = person("Eve")  # before the run: whoever comes in is given a task
    world.create_waiting("argilla", made_rows("argilla", 2))
    page = eve.open("/agreement?run=argilla")
    taken = eve.context.request.get(f"{world.url}/agreement/argilla?run=argilla")
    records = json.loads(taken.body())
    for record in records:
        text = f"In Argilla: {record['metadata']['item_id']}, shorter."
        record["responses"] = {"feedback": [{"value": text, "user_id": "7f3a", "status": "submitted"}]}
    page.get_by_label("File").set_input_files(
        {"name": "records.json", "mimeType": "application/json", "buffer": json.dumps(records).encode()}
    )
    page.get_by_role("button", name="Bring in").click()
    expect(page.get_by_role("status")).to_have_text("2 of 2 answers were taken.")
    expect(page.get_by_role("row", name=re.compile("^Feedback"))).to_contain_text("2 of 2")
    assert world.ended("runs/argilla").state.value == "succeeded"
    lines = eve.context.request.get(f"{world.url}/agreement/answers?run=argilla&kind=feedback").text().splitlines()
    assert [(row["annotator"], row["feedback"]) for row in map(json.loads, lines)] == [
        ("7f3a", "In Argilla: argilla-0, shorter."),
        ("7f3a", "In Argilla: argilla-1, shorter."),
    ]


def test_reviews_of_two_people_show_how_far_they_agree(person: Callable[..., Person], world: World) -> None:
    world.create_finished("agreed", made_rows("agreed", 2), people={"reviews_per_item": 2})
    verdicts = {"Ann": "yn", "Bob": "yy"}
    for name, keys in verdicts.items():
        page = person(name).open("/review?run=agreed")
        for done, key in enumerate(keys, start=1):
            page.keyboard.press(key)
            page.keyboard.press("Enter")
            expect(page.locator(".last li")).to_have_count(done)
    page = person("Eve").open("/agreement?run=agreed")
    expect(page.get_by_text("2 answered by more than one, 2 people")).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("^Ann "))).to_contain_text("50.0%")
