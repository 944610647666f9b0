from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from services.console.views.diff import Change, Piece, word_diff

SAME, GONE, NEW = Change.SAME, Change.GONE, Change.NEW
words = st.lists(st.sampled_from(["a", "b", "kind", " ", "\n", ".", "é", "ش"]), max_size=12).map("".join)


@given(words | st.text(max_size=30), words | st.text(max_size=30))
def test_the_pieces_make_up_both_texts(before: str, after: str) -> None:
    pieces = word_diff(before, after)
    assert "".join(piece.text for piece in pieces if piece.change is not NEW) == before
    assert "".join(piece.text for piece in pieces if piece.change is not GONE) == after
    assert all(piece.text for piece in pieces)


@given(st.text(max_size=50))
def test_equal_texts_differ_in_nothing(text: str) -> None:
    assert all(piece.change is SAME for piece in word_diff(text, text))


def test_a_removed_word_is_marked_alone() -> None:
    assert word_diff("You are a bossy kind person.", "You are a kind person.") == [
        Piece(SAME, "You are a "),
        Piece(GONE, "bossy "),
        Piece(SAME, "kind person."),
    ]


def test_words_changed_side_by_side_are_one_change() -> None:
    assert word_diff("the old cat sat", "the new dog sat") == [
        Piece(SAME, "the "),
        Piece(GONE, "old cat "),
        Piece(NEW, "new dog "),
        Piece(SAME, "sat"),
    ]


def test_the_space_after_a_word_is_a_difference_of_its_own() -> None:
    assert word_diff("one two three", "one two\nthree") == [
        Piece(SAME, "one two"),
        Piece(GONE, " "),
        Piece(NEW, "\n"),
        Piece(SAME, "three"),
    ]
    assert word_diff("Done.", "Done. Thanks.") == [Piece(SAME, "Done."), Piece(NEW, " Thanks.")]


def test_parts_of_a_word_are_no_difference_of_their_own() -> None:
    assert word_diff("unkind", "kind") == [Piece(GONE, "unkind"), Piece(NEW, "kind")]


def test_two_texts_of_50000_characters_are_compared_at_once() -> None:
    before = " ".join(f"a{k % 7}" for k in range(16_000))
    after = " ".join(f"b{k % 5}" for k in range(16_000))
    start = time.process_time()
    assert word_diff("same " + before, "same " + after)[0] == Piece(SAME, "same ")
    assert time.process_time() - start < 2
