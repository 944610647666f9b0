"""Answers of people leave and enter the console as files."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.integration.console.browsing import Person
from tests.integration.console.world import World, made_rows

FORMULA = "=SUM(A1) is no sum, \u201cquoted\u201d, \u202ebackwards\nand on a second line"


def taken_out(page: Page, link: str) -> tuple[str, str]:
    """Name and content of the file that a link leads to."""
    with page.expect_download() as download:
        page.get_by_role("link", name=link, exact=True).click()
    file = download.value
    return file.suggested_filename, Path(file.path()).read_bytes().decode("utf-8")


def bring_in(page: Page, name: str, content: bytes) -> None:
    """Sends a file with the form."""
    page.get_by_label("File").set_input_files({"name": name, "mimeType": "text/plain", "buffer": content})
    page.get_by_role("button", name="Bring in").click()


def test_answers_are_taken_out_as_they_were_typed(person: Callable[..., Person], world: World) -> None:
    world.create_waiting("out", made_rows("out", 2))
    page = person("Ann").open("/annotate?run=out")
    for text in ("Shorter.", FORMULA):
        page.get_by_label("What is wrong with the output").fill(text)
        page.keyboard.press("Control+Enter")
        expect(page.get_by_role("link", name=text.split()[0])).to_be_visible()
    page = person("Eve").open("/agreement?run=out")
    name, lines = taken_out(page, "JSON lines of feedback")
    assert name == "out-feedback.jsonl"
    assert [json.loads(line)["feedback"] for line in lines.splitlines()] == ["Shorter.", FORMULA]
    name, table = taken_out(page, "CSV of feedback")
    assert name == "out-feedback.csv"
    rows = list(csv.DictReader(io.StringIO(table, newline="")))
    assert [(row["annotator"], row["item_id"], row["feedback"]) for row in rows] == [
        ("Ann", "out-0", "Shorter."),
        ("Ann", "out-1", f"'{FORMULA}"),
    ]
    name, records = taken_out(page, "Argilla's records")
    assert name == "records.json"
    assert len(json.loads(records)) == 2


def test_a_table_that_was_filled_in_elsewhere_goes_into_the_run(person: Callable[..., Person], world: World) -> None:
    eve = person("Eve")  # before the run: whoever comes in is given a task
    world.create_waiting("sheet", made_rows("sheet", 2))
    page = eve.open("/agreement?run=sheet")
    name, table = taken_out(page, "a table (CSV)")
    assert name == "sheet-open.csv"
    rows = list(csv.DictReader(io.StringIO(table, newline="")))
    filled = io.StringIO(newline="")
    writer = csv.DictWriter(filled, rows[0])
    writer.writeheader()
    writer.writerows({**row, "annotator": "Joe", "feedback": f"{row['item_id']}: shorter."} for row in rows)
    bring_in(page, "sheet.csv", filled.getvalue().encode())
    expect(page.get_by_role("status")).to_have_text("2 of 2 answers were taken.")
    assert world.ended("runs/sheet").state.value == "succeeded"
    with world.client() as client:
        said = [sample.feedback for sample in client.runs.samples("sheet", iteration=1)]
    assert said == ["sheet-0: shorter.", "sheet-1: shorter."]


def test_a_file_that_is_no_such_file_is_refused_in_words(person: Callable[..., Person], world: World) -> None:
    world.create_waiting("refuses", made_rows("refuses", 1))
    eve = person("Eve")
    eve.expect_complaints("status of 400")
    for content in (b"no JSON", b'{"a": 1}', b"[" * 100_000):
        page = eve.open("/agreement?run=refuses")
        bring_in(page, "records.json", content)
        expect(page.get_by_role("heading", name="That cannot be taken")).to_be_visible()


def test_feedback_that_was_given_in_argilla_goes_into_the_run(person: Callable[..., Person], world: World) -> None:
    eve = person("Eve")  # before the run: whoever comes in is given a task
    world.create_waiting("argilla", made_rows("argilla", 2))
    page = eve.open("/agreement?run=argilla")
    taken = eve.context.request.get(f"{world.url}/agreement/argilla?run=argilla")
    records = json.loads(taken.body())
    for record in records:
        text = f"In Argilla: {record['metadata']['item_id']}, shorter."
        record["responses"] = {"feedback": [{"value": text, "user_id": "7f3a", "status": "submitted"}]}
    bring_in(page, "records.json", json.dumps(records).encode())
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
