"""Who comes in, as whom, and for how long."""

from __future__ import annotations

import logging
import stat
from pathlib import Path

import pytest

from services.console.app import build_app
from services.console.settings import ConsoleSettings, SessionSettings
from services.console.wiring import sign_in_address
from tests.fakes.console_client import FakeClient
from tests.unit.services.console.conftest import TOKENS, Browser, Open


def test_whoever_is_not_signed_in_is_sent_to_the_sign_in_and_back(open_browser: Open) -> None:
    browser = open_browser(role=None)
    asked = browser.get("/annotate?run=x")
    assert (asked.status_code, asked.headers["location"]) == (303, "/login?next=/annotate%3Frun%3Dx")
    assert browser.sign_in(TOKENS["annotator"], next="/annotate?run=x").headers["location"] == "/annotate?run=x"


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_the_sign_in_leads_to_no_other_site(open_browser: Open, target: str) -> None:
    assert open_browser(role=None).sign_in(TOKENS["annotator"], next=target).headers["location"] == "/"


def test_an_unknown_token_is_refused_in_words(open_browser: Open, caplog: pytest.LogCaptureFixture) -> None:
    browser = open_browser(role=None)
    refused = browser.sign_in("wrong-token")
    assert refused.status_code == 400
    assert "That token is not known" in refused.text
    assert "wrong-token" not in refused.text + caplog.text
    assert browser.get("/annotate").status_code == 303


def test_roles_part_the_pages(annotator: Browser, engineer: Browser) -> None:
    assert annotator.get("/").headers["location"] == "/annotate"
    assert engineer.get("/").headers["location"] == "/runs"
    refused = annotator.get("/agreement")
    assert refused.status_code == 403
    assert "This page is for engineers; you are signed in as Ana, annotator." in refused.text
    assert engineer.get("/annotate").status_code == 200


def test_without_accounts_the_machine_has_one_and_each_person_says_a_name(
    open_browser: Open, settings: ConsoleSettings
) -> None:
    browser = open_browser(role=None, accounts=())
    token = settings.token_file.read_text(encoding="utf-8")
    assert stat.S_IMODE(settings.token_file.stat().st_mode) == 0o600
    shown = browser.get(f"/login?token={token}")
    assert "Your name" in shown.text
    assert browser.sign_in(token, name="  Ada  ").status_code == 303
    browser.get("/annotate")
    assert browser.client.feedback.tasks["runs/summaries/feedbackTasks/1"].annotator == "Ada"


@pytest.mark.parametrize("name", ["", "   ", "a" * 101, "a\u202eb", "a\nb"])
def test_a_name_that_cannot_stand_beside_answers_is_refused(
    open_browser: Open, settings: ConsoleSettings, name: str
) -> None:
    browser = open_browser(role=None, accounts=())
    refused = browser.sign_in(settings.token_file.read_text(encoding="utf-8"), name=name)
    assert refused.status_code == 400
    assert 'id="name-wrong"' in refused.text


def test_a_restart_keeps_people_in_and_the_address_the_same(settings: ConsoleSettings) -> None:
    own = settings.model_copy(update={"accounts": ()})
    before = sign_in_address(own)
    first = (settings.state_dir / "token").read_text(encoding="utf-8")
    assert before == f"http://127.0.0.1:50070/login?token={first}"
    build_app(own, FakeClient)  # type: ignore[arg-type]
    key = (settings.state_dir / "session-key").read_bytes()
    build_app(own, FakeClient)  # type: ignore[arg-type]
    assert (sign_in_address(own), (settings.state_dir / "session-key").read_bytes()) == (before, key)


def test_a_session_goes_on_with_another_process(open_browser: Open) -> None:
    before, after = open_browser(), open_browser(role=None)
    after.http.cookies.update(before.http.cookies)
    assert after.get("/annotate").status_code == 200


def test_sessions_end(open_browser: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = open_browser(session=SessionSettings(idle_hours=2, longest_hours=3))
    start = 1_800_000_000.0
    monkeypatch.setattr("time.time", lambda: start)
    browser.http.cookies.clear()
    browser.sign_in(TOKENS["annotator"])
    seen = []
    for hours in (1.9, 2.9, 3.1):
        monkeypatch.setattr("time.time", lambda hours=hours: start + hours * 3600)
        seen.append(browser.get("/annotate").status_code)
    assert seen == [200, 200, 303], "use prolongs a session, but not beyond its longest time"


def test_an_idle_session_ends_though_its_page_renews_a_lease(
    open_browser: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = open_browser(session=SessionSettings(idle_hours=2))
    start = 1_800_000_000.0
    monkeypatch.setattr("time.time", lambda: start)
    browser.http.cookies.clear()
    browser.sign_in(TOKENS["annotator"])
    csrf = browser.csrf("/annotate")
    body = {"task": "runs/summaries/feedbackTasks/1"}
    statuses = []
    for hours in (1.5, 2.5):
        monkeypatch.setattr("time.time", lambda hours=hours: start + hours * 3600)
        headers = {"x-csrf": csrf, "accept": "application/json"}
        statuses.append(browser.http.post("/annotate/lease", json=body, headers=headers).status_code)
    assert statuses == [200, 401]


def test_signing_out_ends_the_session(annotator: Browser) -> None:
    annotator.http.post("/logout", data={"csrf": annotator.csrf("/annotate")})
    assert annotator.get("/annotate").status_code == 303


def test_the_audit_log_says_who_came_in(open_browser: Open, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ilf.console.audit"):
        open_browser()
    (line,) = [record for record in caplog.records if record.name == "ilf.console.audit"]
    assert (line.who, line.role, line.action) == ("Ana", "annotator", "login")  # type: ignore[attr-defined]


def test_a_cookie_of_another_key_is_nobodys(open_browser: Open, tmp_path: Path) -> None:
    before = open_browser()
    (tmp_path / "other").write_text("k" * 40, encoding="utf-8")
    after = open_browser(role=None, session=SessionSettings(key_file=tmp_path / "other"))
    after.http.cookies.update(before.http.cookies)
    assert after.get("/annotate").status_code == 303
