"""ROUGE-L against the values of the library rouge-score, and against the plain recursion."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilf_client.evaluation.overlap import rouge_l

pytest.importorskip("rapidfuzz")

# rouge-score 0.1.2, rougeL F-measure without stemming
RECORDED = [
    ("the cat sat on the mat", "the cat is on the mat", 0.8333333333333334),
    ("The quick, brown fox!", "a quick brown dog; the fox", 0.6),
    ("police killed the gunman", "police kill the gunman", 0.75),
    ("", "something", 0),
    ("same text", "same text", 1.0),
    ("It costs 3.50 (or less)", "costs: 3.50, less", 0.8),
    ("naïve café", "naive cafe", 0.0),
    ("b a c d e f a b", "a b c d f e b a", 0.625),
]


@pytest.mark.parametrize(("output", "reference", "score"), RECORDED)
def test_it_is_that_of_rouge_score(output: str, reference: str, score: float) -> None:
    assert rouge_l(output, reference) == pytest.approx(score)


words = st.lists(st.sampled_from("abcd"), max_size=7)


def longest(a: list[str], b: list[str]) -> int:
    if not a or not b:
        return 0
    if a[0] == b[0]:
        return 1 + longest(a[1:], b[1:])
    return max(longest(a[1:], b), longest(a, b[1:]))


@given(words, words)
def test_it_is_f1_of_the_longest_common_subsequence(a: list[str], b: list[str]) -> None:
    wanted = 2 * longest(a, b) / (len(a) + len(b)) if a and b else 0
    assert rouge_l(" ".join(a), " ".join(b)) == pytest.approx(wanted)
