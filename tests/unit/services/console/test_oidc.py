"""Sign-in with a provider that answers over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from oidc_provider_mock import User, run_server_in_thread

from services.console.identity import Role
from services.console.oidc import role_of
from services.console.settings import OidcSettings
from tests.unit.services.console.conftest import Browser, Open

PEOPLE = [
    User(sub="1", claims={"preferred_username": "Ana", "groups": ["labels"]}),
    User(sub="2", claims={"preferred_username": "Eve", "groups": ["labels", "ml"]}),
    User(sub="3", claims={"preferred_username": "Joe", "groups": ["sales"]}),
    User(sub="4", claims={"groups": "labels"}),
    User(sub="5", claims={"preferred_username": "a\u202eb", "groups": ["ml"]}),
]


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    with run_server_in_thread(require_nonce=True, user_claims=PEOPLE) as server:
        yield f"http://localhost:{server.server_port}"


@pytest.fixture
def browser(issuer: str, open_browser: Open, tmp_path: Path) -> Browser:
    (tmp_path / "client-secret").write_text("of the client\n", encoding="utf-8")
    oidc = OidcSettings(
        issuer=issuer,
        client_id="ilf",
        client_secret_file=tmp_path / "client-secret",
        engineers=("ml",),
        annotators=("labels",),
    )
    return open_browser(role=None, oidc=oidc, accounts=())


def sign_in(browser: Browser, sub: str, target: str = "/") -> Any:
    asked = browser.get(f"/login/oidc?next={target}").headers["location"]
    return browser.get(_callback(httpx2.post(asked, data={"sub": sub})))


def _callback(answer: httpx2.Response) -> str:
    parts = urlsplit(answer.headers["location"])
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == "http://127.0.0.1:50070/login/callback"
    return f"{parts.path}?{parts.query}"


def test_the_sign_in_page_offers_the_provider_alone(browser: Browser) -> None:
    shown = browser.get("/login?next=/compare").text
    assert 'href="/login/oidc?next=/compare"' in shown
    assert 'name="token"' not in shown


@pytest.mark.parametrize(("sub", "home"), [("1", "/annotate"), ("2", "/runs"), ("4", "/annotate")])
def test_groups_become_roles(browser: Browser, sub: str, home: str) -> None:
    assert sign_in(browser, sub, "/compare").headers["location"] == "/compare"
    assert browser.get("/").headers["location"] == home


def test_answers_stand_under_the_provider_s_name(browser: Browser) -> None:
    sign_in(browser, "1")
    browser.get("/annotate")
    assert browser.client.feedback.tasks["runs/summaries/feedbackTasks/1"].annotator == "Ana"


@pytest.mark.parametrize(("sub", "status", "words"), [("3", 403, "have no role here"), ("5", 400, "cannot be seen")])
def test_whoever_has_no_role_or_no_usable_name_stays_outside(
    browser: Browser, sub: str, status: int, words: str
) -> None:
    refused = sign_in(browser, sub)
    assert refused.status_code == status
    assert words in refused.text
    assert browser.get("/annotate").status_code == 303


def test_the_request_carries_state_nonce_and_a_code_challenge(browser: Browser) -> None:
    query = parse_qs(urlsplit(browser.get("/login/oidc").headers["location"]).query)
    assert query["code_challenge_method"] == ["S256"]
    assert len(query["state"][0]) >= 20 and len(query["nonce"][0]) >= 20
    assert query["redirect_uri"] == ["http://127.0.0.1:50070/login/callback"]


def test_an_answer_that_another_browser_asked_for_is_refused(browser: Browser) -> None:
    asked = browser.get("/login/oidc").headers["location"]
    callback = _callback(httpx2.post(asked, data={"sub": "2"}))
    browser.http.cookies.clear()
    refused = browser.get(callback)
    assert refused.status_code == 401
    assert "begun in another window" in refused.text


def test_an_answer_counts_once(browser: Browser) -> None:
    asked = browser.get("/login/oidc").headers["location"]
    callback = _callback(httpx2.post(asked, data={"sub": "2"}))
    assert browser.get(callback).status_code == 303
    assert browser.get(callback).status_code == 401


def test_a_refusal_by_the_person_is_said_in_words(browser: Browser) -> None:
    asked = browser.get("/login/oidc").headers["location"]
    refused = browser.get(_callback(httpx2.post(asked, data={"action": "deny"})))
    assert refused.status_code == 401
    assert "SIGN_IN_REFUSED" in refused.text


def test_the_log_says_in_the_protocol_s_word_what_the_provider_refused(
    issuer: str, open_browser: Open, caplog: pytest.LogCaptureFixture
) -> None:
    without_secret = OidcSettings(issuer=issuer, client_id="ilf", engineers=("ml",))
    refused = sign_in(open_browser(role=None, oidc=without_secret, accounts=()), "2")
    assert refused.status_code == 401
    (record,) = [record for record in caplog.records if record.name == "ilf.console.audit"]
    assert record.__dict__["error"] == "invalid_client"


def test_sign_ins_that_were_left_do_not_fill_the_cookie(browser: Browser) -> None:
    sizes = []
    for _ in range(6):
        browser.get("/login/oidc")
        sizes.append(sum(len(value) for value in browser.http.cookies.values()))
    assert max(sizes) - min(sizes) < 50


def test_a_provider_that_is_down_is_said_in_words(open_browser: Open) -> None:
    oidc = OidcSettings(issuer="http://127.0.0.1:9", client_id="ilf", engineers=("ml",))
    refused = open_browser(role=None, oidc=oidc).get("/login/oidc")
    assert refused.status_code == 401
    assert "provider does not answer" in refused.text
    assert "127.0.0.1:9" not in refused.text


def test_without_a_provider_there_is_no_such_page(open_browser: Open) -> None:
    assert open_browser(role=None).get("/login/oidc").status_code == 404


@pytest.mark.parametrize(
    ("groups", "role"),
    [
        (["ml"], Role.ENGINEER),
        ("labels ml", Role.ENGINEER),
        (["labels"], Role.ANNOTATOR),
        ([], None),
        (None, None),
        ("ml-guests", None),
        ([["ml"]], None),
        ({"ml": True}, Role.ENGINEER),
    ],
)
def test_the_highest_role_counts(groups: Any, role: Role | None) -> None:
    settings = OidcSettings(issuer="https://x", client_id="c", engineers=("ml",), annotators=("labels",))
    assert role_of({"groups": groups}, settings) == role


def test_a_provider_without_roles_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="nobody could come in"):
        OidcSettings(issuer="https://x", client_id="c")
