"""What no other site can do, and what browsers are told."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from starlette.routing import Mount, Route

from services.console.app import ROUTES
from services.console.security import CONTENT_SECURITY_POLICY
from services.console.settings import HttpSettings
from tests.unit.services.console.conftest import Browser, Open

BODY = {"task": "runs/summaries/feedbackTasks/1", "request_id": "r1", "feedback": "x"}
OPEN = {"/healthz", "/", "/login", "/login/oidc", "/login/callback"}


def test_every_page_but_the_sign_in_is_guarded() -> None:
    for route in ROUTES:
        if isinstance(route, Mount):
            assert route.path == "/static"
            continue
        assert isinstance(route, Route)
        guarded_by = route.endpoint.__dict__.get("guarded_by", "nothing")
        assert guarded_by != "nothing", f"{route.path} is guarded by nothing"
        assert (guarded_by is None) == (route.path in OPEN), route.path


@pytest.mark.parametrize("path", ["/login", "/annotate", "/nowhere", "/static/base.css", "/healthz"])
def test_every_answer_carries_the_policies(annotator: Browser, path: str) -> None:
    headers = annotator.get(path).headers
    assert headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == ("no-cache" if path.startswith("/static") else "no-store")


def test_a_change_needs_the_token_of_the_session(annotator: Browser) -> None:
    annotator.get("/annotate")
    for token in (b"", b"guessed", "é".encode()):
        headers = {b"accept": b"application/json", b"x-csrf": token}
        answer = annotator.http.post("/annotate/answers", json=BODY, headers=headers)
        assert (answer.status_code, answer.json()["reason"]) == (403, "CSRF")
    assert annotator.client.feedback.calls == []


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_change_from_another_site_is_refused_though_it_knows_the_token(
    annotator: Browser, headers: dict[str, str]
) -> None:
    token = annotator.csrf("/annotate")
    answer = annotator.http.post("/annotate/answers", json=BODY, headers={"x-csrf": token, **headers})
    assert (answer.status_code, answer.json()["reason"]) == (403, "CSRF")
    assert annotator.client.feedback.calls == []


def test_the_page_itself_may_change_things(annotator: Browser) -> None:
    token = annotator.csrf("/annotate")
    headers = {"x-csrf": token, "origin": "http://testserver", "sec-fetch-site": "same-origin"}
    assert annotator.http.post("/annotate/answers", json=BODY, headers=headers).status_code == 200


def test_cookies_are_out_of_reach_for_scripts_and_other_sites(open_browser: Open) -> None:
    plain = open_browser(role=None).get("/login").headers["set-cookie"]
    assert plain.startswith("ilf_console_50070=")
    assert "httponly; samesite=lax" in plain
    assert "secure" not in plain
    server = HttpSettings(url="https://ilf.example.org")
    safe = open_browser(role=None, server=server).get("/login").headers
    assert safe["set-cookie"].startswith("__Host-ilf_console_50070=")
    assert safe["set-cookie"].endswith("; secure")
    assert safe["strict-transport-security"] == "max-age=31536000"


@pytest.mark.parametrize("url", ["http://ilf.example.org", "ilf.example.org", "ftp://x", "https://x.org/path"])
def test_an_address_where_sessions_would_travel_in_plain_text_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        HttpSettings(url=url)


def test_what_is_too_large_is_refused(open_browser: Open) -> None:
    browser = open_browser(server=HttpSettings(max_body_bytes=1000))
    answer = browser.post("/annotate/answers", {**BODY, "feedback": "x" * 2000})
    assert answer.status_code == 413
    assert browser.client.feedback.calls == []
