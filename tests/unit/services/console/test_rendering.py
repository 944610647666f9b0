"""What filters make of values."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest

from services.console.rendering import ago, clock, number, percent, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\n\ttext é 漢 😀", "plain\n\ttext é 漢 😀"),
        ("a\x00b\x1b[31mc", "a␀b␛[31mc"),
        ("\r\n", "␍\n"),
        ("\x7f\x85", "⟨U+007F⟩⟨U+0085⟩"),
        ("evil\u202egpj.exe", "evil⟨U+202E⟩gpj.exe"),
        ("\u2066x\u2069", "⟨U+2066⟩x⟨U+2069⟩"),
        ("half \ud800", "half ⟨U+D800⟩"),
        ("שלום", "שלום"),
        ("", ""),
    ],
)
def test_what_cannot_be_seen_becomes_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_values_that_are_missing_are_dashes() -> None:
    assert {clock(None), ago(None), number(None), percent(None), number(math.nan), percent(math.nan)} == {"—"}


def test_figures_and_times() -> None:
    assert (number(1234567), number(0.456), number(1234.5, 1), percent(0.1234)) == (
        "1,234,567",
        "0.46",
        "1,234.5",
        "12.3%",
    )
    assert clock(datetime(2026, 3, 1, 14, 5, tzinfo=UTC)) == "2026-03-01 14:05 UTC"
    assert ago(datetime.now(UTC) - timedelta(seconds=2)) == "just now"
    assert ago(datetime.now(UTC) - timedelta(minutes=3, seconds=10)).startswith("3m1")
