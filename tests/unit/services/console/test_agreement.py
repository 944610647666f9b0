"""What people answered: how far along they are, and files of it."""

from __future__ import annotations

import csv
import io
import json
import logging

import pytest

from ilf_client.models.tasks import Preference, ReviewTask, TaskState, Verdict
from ilf_common.errors import NotFoundError
from services.console.views.answers import strength
from tests.unit.services.console.conftest import Browser

TEXT = '=1+1 "quoted", é\nsecond line <b>'


async def _answer(browser: Browser) -> None:
    client = browser.client
    for number in (1, 2):
        name = f"runs/summaries/feedbackTasks/{number}"
        await client.feedback.lease("Ana", count=2)
        await client.feedback.submit(name, "Ana", TEXT if number == 1 else "-", flags=("unclear", "other"))
    await client.comparisons.lease("Ana")
    await client.comparisons.submit("runs/summaries/comparisonTasks/1", "Ana", Preference.B, reason="shorter")


async def test_progress_stands_with_the_files(engineer: Browser) -> None:
    await _answer(engineer)
    shown = engineer.get("/agreement?run=summaries").text
    assert "2 of 6" in shown
    assert 'href="/agreement/answers?kind=reviews&amp;form=csv&amp;run=summaries"' in shown


async def test_a_run_shows_how_far_its_people_agree_and_who_does_not(engineer: Browser) -> None:
    for item, verdicts in enumerate(("yes yes no", "no no no", "partly yes yes"), start=1):
        for person, verdict in zip(("Ana", "Bob", "Cleo"), verdicts.split(), strict=True):
            name = f"runs/summaries/reviewTasks/{item}-{person}"
            engineer.client.reviews.tasks[name] = ReviewTask(
                name, f"post-{item}", "c", "i", "f", "r", person, state=TaskState.DONE, verdict=Verdict(verdict)
            )
    shown = engineer.get("/agreement?run=summaries").text
    # By hand: 4 yes, 4 no, 1 partly; 1 - (9 - 1) * (2 + 0 + 2) / (9² - 4² - 4² - 1²).
    assert '<strong class="figures">0.33</strong>' in shown
    assert "too low to rely on" in shown
    assert "3 answered by more than one, 3 people" in shown
    assert 'Bob</th><td class="number">66.7%' in shown
    assert "people.comparisons_per_pair" in shown, "an empty half says what to do"


def test_without_a_run_the_page_asks_for_one(engineer: Browser) -> None:
    shown = engineer.get("/agreement").text
    assert "Choose a run" in shown
    assert '<option value="older">older</option>' in shown
    assert '<option value="gone" selected>' in engineer.get("/agreement?run=runs/gone").text


@pytest.mark.parametrize(
    ("alpha", "word"), [(1.0, "reliable"), (0.8, "reliable"), (0.7, "tentative"), (0.6, "too low to rely on")]
)
def test_alphas_have_words(alpha: float, word: str) -> None:
    assert strength(alpha)[0] == word


async def test_json_lines_are_exact_and_hold_answers_alone(engineer: Browser) -> None:
    await _answer(engineer)
    taken = engineer.get("/agreement/answers?kind=feedback&form=jsonl&run=summaries")
    assert taken.headers["content-disposition"] == 'attachment; filename="summaries-feedback.jsonl"'
    rows = [json.loads(line) for line in taken.text.splitlines()]
    assert [(row["name"][-1], row["annotator"], row["feedback"]) for row in rows] == [
        ("1", "Ana", TEXT),
        ("2", "Ana", "-"),
    ]
    assert rows[0]["flags"] == ["unclear", "other"]
    assert rows[0]["answer_time"].endswith("+00:00")
    assert "guidelines" not in rows[0]


async def test_a_spreadsheet_meets_no_formula(engineer: Browser) -> None:
    await _answer(engineer)
    taken = engineer.get("/agreement/answers?kind=feedback&form=csv").text
    rows = list(csv.DictReader(io.StringIO(taken, newline="")))
    assert [row["feedback"] for row in rows] == [f"'{TEXT}", "'-"]
    assert rows[0]["flags"] == "unclear other"


async def test_which_of_the_candidates_was_a_and_which_b_is_in_the_file(engineer: Browser) -> None:
    await _answer(engineer)
    (line,) = engineer.get("/agreement/answers?kind=comparisons").text.splitlines()
    row = json.loads(line)
    assert (row["candidate_a"], row["candidate_b"], row["preference"], row["reason"]) == (3, 1, "b", "shorter")


def test_without_answers_the_file_is_empty_but_for_its_head(engineer: Browser) -> None:
    assert engineer.get("/agreement/answers?kind=reviews&form=jsonl").text == ""
    assert engineer.get("/agreement/answers?kind=reviews&form=csv").text.startswith("name,item_id,context,")


@pytest.mark.parametrize("query", ["kind=secrets", "kind=__class__", "form=xls"])
def test_what_there_is_no_file_of_is_refused(engineer: Browser, query: str) -> None:
    assert engineer.get(f"/agreement/answers?{query}").status_code == 400


def test_a_run_that_does_not_exist_is_a_page_and_no_broken_file(engineer: Browser) -> None:
    engineer.client.feedback.fault = NotFoundError("There is no run x.", resource_type="run", resource_name="x")
    assert engineer.get('/agreement/answers?run=x"y').status_code == 404


def test_files_are_for_engineers(annotator: Browser) -> None:
    assert annotator.get("/agreement/answers").status_code == 403


def test_the_audit_log_says_who_took_answers_out(engineer: Browser, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        engineer.get("/agreement/answers?run=summaries")
    (line,) = [record for record in caplog.records if record.name == "ilf.console.audit"]
    assert (line.who, line.action, line.resource) == ("Eve", "download", "summaries")  # type: ignore[attr-defined]
