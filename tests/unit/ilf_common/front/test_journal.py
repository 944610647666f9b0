"""The journal keeps what still counts, and a worker can be brought there in the right order."""

from __future__ import annotations

import pytest

from ilf_common.front.journal import Journal, Step


def load(uri: str) -> list[Step]:
    return [Step("Load", {"uri": uri})]


def keys(entries: object) -> list[str]:
    return [entry.key for entry in entries]  # type: ignore[attr-defined]


def test_the_last_call_of_a_key_counts_and_a_repeat_changes_nothing() -> None:
    first = Journal.empty().put("a", load("1"))
    second = first.put("a", load("2"))
    assert second.entries["a"].steps == tuple(load("2")) and second.revision == 2
    assert second.put("a", load("2")) == second
    assert first.changed_keys(second) == ["a"]
    assert second.changed_keys(second.remove("a")) == ["a"]
    assert second.remove("b") is second


def test_a_new_worker_gets_what_is_pinned_and_the_newest_with_what_they_need() -> None:
    journal = Journal.empty().put("base", load("b"))
    for number in range(3):
        journal = journal.put(f"adapter-{number}", load(str(number)), needs=["base", "a model of the settings"])
    journal = journal.put("alias", [Step("Promote", {})], needs=["adapter-0"], pinned=True)
    assert keys(journal.standing()) == ["base", "adapter-0", "alias", "adapter-2"]
    assert keys(journal.with_needs(["adapter-1", "nobody"])) == ["base", "adapter-1"]


def test_it_is_read_as_it_was_written() -> None:
    journal = Journal.empty().put("a", load("1"), resource={"name": "a"}).put("b", load("2"), needs=["a"], pinned=True)
    assert Journal.from_json(journal.to_json()) == journal
    with pytest.raises((ValueError, KeyError, TypeError)):
        Journal.from_json(b'{"entries": [{"key": 1}]}')
