"""Whatever people and models write is shown, and is never markup."""

from __future__ import annotations

import pytest

from tests.unit.services.console.pages.conftest import OpenEngineer

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\u202e\x07{{ 7 * 7 }}"
PAGES = [
    "/runs/words-2",
    "/runs/words-2/live",
    "/runs/broken",
    "/runs/words-1/samples?iteration=1",
    "/runs/words-1/samples?iteration=1&failed=yes",
    "/runs/words-1/samples/plot?iteration=1",
    "/contrast?first=words-1&first_iteration=1&second=words-2&second_iteration=1",
    "/runs/words-1/reliability?iteration=1",
    "/jobs/train-1",
    "/policies",
    "/pools",
]


@pytest.mark.parametrize("path", PAGES)
def test_texts_are_never_markup(open_engineer: OpenEngineer, path: str) -> None:
    shown = open_engineer(HOSTILE).text(path)
    assert "<script>alert" not in shown
    assert "<img src=x" not in shown
    assert "\u202e" not in shown and "\x07" not in shown
    assert "{{ 7 * 7 }}" in shown or "7 * 7" not in shown
    assert "style=" not in shown and "onclick=" not in shown


def test_what_an_address_holds_is_never_markup(open_engineer: OpenEngineer) -> None:
    engineer = open_engineer("")
    for path in ("/runs?text=", "/runs/words-1/samples?text=", "/runs/words-1/samples?min_score=", "/contrast?first="):
        assert "<script>alert" not in engineer.get(f"{path}%22%3E%3Cscript%3Ealert(1)%3C/script%3E").text


def test_50000_characters_are_shown_with_their_differences(open_engineer: OpenEngineer) -> None:
    text = " ".join(f"word{k % 97}" for k in range(8_000))[:50_000]
    assert text in open_engineer(text).text("/runs/words-1/samples?iteration=1&item=item-0")
