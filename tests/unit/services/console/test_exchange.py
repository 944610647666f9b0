"""Files of what people answer, taken out and brought in."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from ilf_client import argilla
from ilf_client.answer_files import Imported
from services.console.pages import exchange as page
from tests.unit.services.console.conftest import Browser

RECORDS = [
    {"metadata": {"iteration": 1, "item_id": "post-1"}, "responses": {"feedback": [{"value": "é", "user_id": "u"}]}}
]


def bring(browser: Browser, content: bytes, run: str = "summaries") -> Any:
    data = {"csrf": browser.csrf("/agreement"), "run": run}
    return browser.http.post(
        "/agreement/import",
        data=data,
        files={"file": ("records.json", content)},
        headers={"accept": "text/html"},
        follow_redirects=False,
    )


class SyncClient:
    """Stands in for the client that brings responses in."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> SyncClient:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_responses_of_a_file_are_submitted_and_counted(
    engineer: Browser, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    came: list[Any] = []

    def submit(client: Any, run: str, given: Any) -> Imported:
        came.append((run, {user: dict(texts) for user, texts in given.items()}))
        return Imported(taken=1200, left=3)

    monkeypatch.setattr(page, "Client", SyncClient)
    monkeypatch.setattr(page, "submit_answers", submit)
    with caplog.at_level(logging.INFO):
        answer = bring(engineer, json.dumps(RECORDS).encode())
    assert (answer.status_code, answer.headers["location"]) == (303, "/agreement?run=summaries")
    assert came == [("summaries", {"u": {(1, "post-1"): "é"}})]
    shown = engineer.get("/agreement?run=summaries").text
    assert "1,200 of 1,203 answers were taken; the others are of no task that is open." in shown
    assert "1,200 of" not in engineer.get("/agreement?run=summaries").text, "a message is shown once"
    (line,) = [record for record in caplog.records if record.name == "ilf.console.audit"]
    assert (line.action, line.taken, line.left) == ("import", 1200, 3)  # type: ignore[attr-defined]


@pytest.mark.parametrize("content", [b"", b"no json", b"{}", b"[" * 100_000, b"\xff\xfe", b'[{"metadata": {}}]'])
def test_what_is_no_such_file_is_refused_in_words(engineer: Browser, content: bytes) -> None:
    refused = bring(engineer, content)
    assert refused.status_code == 400
    assert "<code>file</code>" in refused.text or "<code>records</code>" in refused.text


def test_without_a_file_or_a_run_the_page_asks_for_them(engineer: Browser) -> None:
    assert "Choose a run first" in bring(engineer, b"[]", run="").text
    csrf = engineer.csrf("/agreement")
    headers = {"accept": "text/html"}
    refused = engineer.http.post("/agreement/import", data={"csrf": csrf, "run": "summaries"}, headers=headers)
    assert "Choose a file first" in refused.text


def test_the_records_go_out_as_argilla_takes_them(engineer: Browser) -> None:
    taken = engineer.get("/agreement/argilla?run=summaries")
    records = taken.json()
    assert len(records) == 6
    assert records[0]["metadata"]["item_id"] == "post-1"
    assert argilla.responses(records) == {}


def test_bringing_in_is_for_engineers(annotator: Browser) -> None:
    csrf = annotator.csrf("/annotate")
    data = {"csrf": csrf, "run": "summaries"}
    assert annotator.http.post("/agreement/import", data=data).status_code == 403
