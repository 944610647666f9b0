"""Annotate, compare, review: one task at a time, sent once, changed afterwards, held on to meanwhile."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from ilf_client.models.tasks import Preference, Verdict
from ilf_common.errors import InvalidArgumentError, UnavailableError
from tests.unit.services.console.conftest import Browser, Open

FEEDBACK = "runs/summaries/feedbackTasks/1"
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\u202e\x07{{ 7 * 7 }}"


def answer(browser: Browser, path: str, **body: Any) -> Any:
    return browser.post(f"{path}/answers", {"task": FEEDBACK, "request_id": "r1", **body})


def test_a_task_is_leased_shown_and_answered(annotator: Browser) -> None:
    shown = annotator.get("/annotate").text
    assert f'data-task="{FEEDBACK}"' in shown
    assert "My roommate adopted a dog a year ago" in shown
    assert "A summary is good when" in shown
    assert "0 of 6" in shown
    sent = answer(annotator, "/annotate", feedback="Too long.\nBy half.", flags=["unclear"])
    assert (sent.status_code, sent.json()) == (200, {"task": FEEDBACK})
    task = annotator.client.feedback.tasks[FEEDBACK]
    assert (task.annotator, task.feedback, task.flags) == ("Ana", "Too long.\nBy half.", ("unclear",))
    after = annotator.get("/annotate").text
    assert 'data-task="runs/summaries/feedbackTasks/2"' in after
    assert "Too long. By half." in after, "one's own last answers are shown"


def test_preferences_and_verdicts_reach_the_client(annotator: Browser) -> None:
    annotator.get("/compare")
    pair = "runs/summaries/comparisonTasks/1"
    assert answer(annotator, "/compare", task=pair, preference="tie", reason="same").status_code == 200
    assert annotator.client.comparisons.tasks[pair].preference is Preference.TIE
    assert annotator.client.comparisons.tasks[pair].reason == "same"
    annotator.get("/review")
    review = "runs/summaries/reviewTasks/1"
    assert answer(annotator, "/review", task=review, verdict="partly").status_code == 200
    assert annotator.client.reviews.tasks[review].verdict is Verdict.PARTLY


def test_the_request_id_of_the_browser_is_passed_on(annotator: Browser) -> None:
    annotator.get("/annotate")
    answer(annotator, "/annotate", feedback="x", request_id="same")
    answer(annotator, "/annotate", feedback="x", request_id="same")
    assert annotator.client.feedback.calls == ["same", "same"]


def test_a_skipped_task_goes_back_and_comes_no_more(annotator: Browser) -> None:
    annotator.get("/annotate")
    assert answer(annotator, "/annotate", skip=True).status_code == 200
    assert f'data-task="{FEEDBACK}"' not in annotator.get("/annotate").text
    assert annotator.client.feedback.tasks[FEEDBACK].annotator == ""


def test_an_own_answer_is_shown_to_be_changed_and_those_of_others_are_not(open_browser: Open) -> None:
    browser = open_browser()
    browser.get("/annotate")
    answer(browser, "/annotate", feedback="first words")
    shown = browser.get(f"/annotate?task={FEEDBACK}").text
    assert "data-editing" in shown
    assert "first words</textarea>" in shown
    assert browser.get("/annotate?task=runs/summaries/feedbackTasks/2").status_code == 404
    assert browser.get("/annotate?task=%00").status_code == 404


def test_previous_leads_from_answer_to_older_answer(annotator: Browser) -> None:
    for number in (1, 2):
        annotator.get("/annotate")
        answer(annotator, "/annotate", task=f"runs/summaries/feedbackTasks/{number}", feedback=f"number {number}")
    newest = "/annotate?task=runs/summaries/feedbackTasks/2"
    older = "/annotate?task=runs/summaries/feedbackTasks/1"
    assert f'href="{newest}" data-turn data-key="p"' in annotator.get("/annotate").text
    assert f'href="{older}" data-turn data-key="p"' in annotator.get(newest).text
    assert 'data-key="p"' not in annotator.get(older).text


def test_a_closed_answer_cannot_be_changed(annotator: Browser) -> None:
    annotator.get("/annotate")
    answer(annotator, "/annotate", feedback="final words")
    annotator.client.feedback._put(annotator.client.feedback.tasks[FEEDBACK], closed=True)
    shown = annotator.get(f"/annotate?task={FEEDBACK}").text
    assert "this answer is final" in shown
    assert 'type="submit" class="primary"' not in shown


def test_a_lease_is_renewed_until_somebody_else_has_the_task(annotator: Browser) -> None:
    annotator.get("/annotate")
    held = annotator.post("/annotate/lease", {"task": FEEDBACK}).json()
    assert held["held"] is True
    assert 890 <= held["lease_seconds"] <= 900
    annotator.client.feedback.expire(FEEDBACK, to="Bob")
    assert annotator.post("/annotate/lease", {"task": FEEDBACK}).json()["held"] is False
    lost = answer(annotator, "/annotate", feedback="late")
    assert (lost.status_code, lost.json()["reason"]) == (409, "LEASE_TAKEN")


@pytest.mark.parametrize("path", ["/annotate", "/compare", "/review"])
def test_texts_are_never_markup(open_browser: Open, path: str) -> None:
    shown = open_browser(text=HOSTILE).get(path).text
    assert "<script>alert" not in shown
    assert "<img src=x" not in shown
    assert "{{ 7 * 7 }}" in shown.replace("&#34;", '"')
    assert "\u202e" not in shown and "⟨U+202E⟩" in shown
    assert "\x07" not in shown and "␇" in shown


@pytest.mark.parametrize("path", ["/annotate", "/compare", "/review"])
def test_a_desk_without_tasks_says_what_to_do(annotator: Browser, path: str) -> None:
    for asked in (annotator.client.feedback, annotator.client.comparisons, annotator.client.reviews):
        asked.tasks.clear()
    shown = annotator.get(path).text
    assert "Nothing to do here now" in shown
    assert "New tasks appear here by themselves" in shown


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"no json", "body"),
        (b'{"task": "x", "request_id": "r", "feedback": "\\ud800"}', "body"),
        (b'{"task": "x", "request_id": "", "feedback": "y"}', "request_id"),
        (b'{"task": "x", "request_id": "r", "feedback": 7}', "feedback"),
        (b'{"task": "x", "request_id": "r", "feedback": "y", "other": 1}', "other"),
        (b"[]", "body"),
    ],
)
def test_what_is_no_answer_is_refused_with_its_field(annotator: Browser, body: bytes, field: str) -> None:
    headers = {"x-csrf": annotator.csrf("/annotate"), "accept": "application/json", "content-type": "application/json"}
    refused = annotator.http.post("/annotate/answers", content=body, headers=headers)
    assert refused.status_code == 400
    assert list(refused.json()["fields"]) == [field]


def test_an_answer_without_a_choice_is_refused(annotator: Browser) -> None:
    assert list(answer(annotator, "/compare").json()["fields"]) == ["preference"]
    assert list(answer(annotator, "/review").json()["fields"]) == ["verdict"]


def test_what_the_service_refuses_is_shown_beside_the_field(annotator: Browser) -> None:
    annotator.client.feedback.fault = InvalidArgumentError.of("feedback", "has 60000 characters; at most 50000")
    refused = answer(annotator, "/annotate", feedback="x" * 60000)
    assert (refused.status_code, refused.json()["fields"]) == (400, {"feedback": "has 60000 characters; at most 50000"})


def test_a_service_that_is_down_is_named_and_the_answer_may_be_repeated(annotator: Browser) -> None:
    csrf = annotator.csrf("/annotate")
    annotator.client.feedback.fault = UnavailableError("ipv4:10.0.0.7:50055: connection refused")
    headers = {"x-csrf": csrf, "accept": "application/json"}
    body = {"task": FEEDBACK, "request_id": "r1", "feedback": "x"}
    sent = annotator.http.post("/annotate/answers", json=body, headers=headers)
    assert (sent.status_code, sent.json()["retry"]) == (503, True)
    assert "orchestrator" in sent.json()["down"]
    page = annotator.get("/annotate")
    assert page.status_code == 503
    assert "10.0.0.7" not in page.text + sent.text
    assert "fault.js" in page.text, "the page goes on by itself"


def test_the_audit_log_has_the_deed_and_no_words(annotator: Browser, caplog: pytest.LogCaptureFixture) -> None:
    annotator.get("/annotate")
    with caplog.at_level(logging.INFO):
        answer(annotator, "/annotate", feedback="words of a person")
        answer(annotator, "/annotate", skip=True)
    lines = [record for record in caplog.records if record.name == "ilf.console.audit"]
    facts = [(r.who, r.role, r.action, r.resource) for r in lines]  # type: ignore[attr-defined]
    assert facts == [("Ana", "annotator", "submit", FEEDBACK), ("Ana", "annotator", "skip", FEEDBACK)]
    assert "words of a person" not in caplog.text
