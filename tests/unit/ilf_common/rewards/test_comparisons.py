from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilf_common.rewards.comparisons import Comparison, context_digest, parse_comparisons, split_by_context

TRL = {"prompt": "p", "chosen": "x", "rejected": "y"}
SLF5K = {
    "subreddit": "cats",
    "title": "My cat",
    "post": "It sleeps.",
    "generated_summary_for_comparison_A": "first",
    "generated_summary_for_comparison_B": "second",
    "comparison_preference": "Summary B",
}


def parse(*rows: dict[str, Any], slice_column: str = "") -> Any:
    return parse_comparisons(enumerate(rows, start=1), slice_column=slice_column)


def test_trl_columns_are_read_with_their_margin_and_slice() -> None:
    found = parse(TRL, {**TRL, "margin": 2, "topic": 7}, {**TRL, "margin": None}, slice_column="topic")
    assert found.rows == (
        Comparison(1, "p", "x", "y"),
        Comparison(2, "p", "x", "y", 2.0, "7"),
        Comparison(3, "p", "x", "y"),
    )
    assert not found.dropped and not found.problems


def test_slf5k_fields_are_read_as_published() -> None:
    context = "Subreddit: r/cats\nTitle: My cat\nText: It sleeps."
    found = parse(SLF5K, {**SLF5K, "comparison_preference": "Summary A"})
    assert found.rows == (Comparison(1, context, "second", "first"), Comparison(2, context, "first", "second"))


def test_rows_that_say_nothing_are_dropped_with_a_count_and_a_reason() -> None:
    found = parse(
        TRL,
        {**TRL, "rejected": "x"},
        {**SLF5K, "comparison_preference": "Neither"},
        {**SLF5K, "comparison_preference": None},
        {**SLF5K, "generated_summary_for_comparison_A": "second"},
    )
    assert [row.number for row in found.rows] == [1]
    assert found.dropped == {"equal_texts": 2, "unknown_preference": 2} and not found.problems


def test_conversations_are_refused_with_what_makes_texts_of_them() -> None:
    def said(text: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": text}]

    whole = {"prompt": [{"role": "user", "content": "secret"}], "chosen": said("x"), "rejected": said("y")}
    found = parse(TRL, whole, {"chosen": said("x"), "rejected": said("y")}, {**TRL, "prompt": ["a"]})
    assert [row.number for row in found.rows] == [1]
    for number, problem in enumerate(found.problems[:2], start=2):
        assert problem.startswith(f"row {number}: holds messages") and "secret" not in problem
        assert "trl.apply_chat_template(row, tokenizer)" in problem and "trl.extract_prompt(row)" in problem
    assert found.problems[2] == "row 4: prompt must be text"


def test_trl_makes_texts_of_conversations_as_it_is_said() -> None:
    trl = pytest.importorskip("trl")

    class Tokenizer:
        """Joins the messages, and opens the assistant's turn where it is asked to."""

        def apply_chat_template(self, messages: Any, *, add_generation_prompt: bool = False, **_: Any) -> str:
            told = "".join(f"<{one['role']}>{one['content']}" for one in messages)
            return told + ("<assistant>" if add_generation_prompt else "")

    asked = [{"role": "user", "content": "q"}]
    row = {
        name: [*asked, {"role": "assistant", "content": text}] for name, text in (("chosen", "x"), ("rejected", "y"))
    }
    texts = trl.apply_chat_template(trl.extract_prompt(row), Tokenizer())
    assert parse(texts).rows == (Comparison(1, "<user>q<assistant>", "x", "y"),)


def test_broken_rows_are_named_without_their_texts() -> None:
    found = parse(
        {"prompt": "secret", "chosen": "x"},
        {**TRL, "prompt": " "},
        {**TRL, "margin": float("nan")},
        {**TRL, "margin": True},
        {**SLF5K, "generated_summary_for_comparison_B": None},
        {**SLF5K, "post": None},
        {},
    )
    assert not found.rows and len(found.problems) == 7
    assert found.problems[0] == "row 1: rejected must be text"
    assert found.problems[5] == "row 6: post must be text"
    assert "secret" not in " ".join(found.problems)


def test_contexts_that_were_trained_on_are_dropped_and_counted() -> None:
    found = parse(TRL, {**TRL, "prompt": "q"}, {**TRL, "prompt": "q", "rejected": "x"})
    fresh = found.without_contexts(frozenset({context_digest("p")}))
    assert [row.context for row in fresh.rows] == ["q"]
    assert fresh.dropped == {"equal_texts": 1, "context_trained_on": 1}
    assert found.without_contexts(frozenset()) == found


@given(
    contexts=st.lists(st.sampled_from("abcdefghij"), min_size=2, max_size=40),
    share=st.floats(0.01, 0.5),
    seed=st.integers(0, 2**64 - 1),
)
def test_a_split_shares_no_context_keeps_every_row_and_knows_no_order(
    contexts: list[str], share: float, seed: int
) -> None:
    rows = [Comparison(number, context, "x", "y") for number, context in enumerate(contexts, start=1)]
    train, held_out = split_by_context(rows, share, seed)
    assert not {row.context for row in train} & {row.context for row in held_out}
    assert sorted(row.number for row in (*train, *held_out)) == [row.number for row in rows]
    assert len({row.context for row in held_out}) == max(1, round(share * len(set(contexts))))
    again = split_by_context(rows[::-1], share, seed)
    assert {row.number for row in again[1]} == {row.number for row in held_out}


def test_nothing_is_held_out_without_a_share() -> None:
    rows = [Comparison(1, "a", "x", "y")]
    assert split_by_context(rows, 0.0, 0) == (rows, [])
