from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilf_client import Candidate, CandidateScore, InternalError, JudgeScore, RunSample
from ilf_client.report.agreement import AgreementCounter


def row(*candidates: tuple[str, float, float]) -> RunSample:
    """Candidates as (text, score of judge one, score of judge two); the ensemble is their mean."""
    return RunSample(
        "item",
        candidates=[
            Candidate(
                text,
                CandidateScore((one + two) / 2, [JudgeScore("one", one, 0.1), JudgeScore("two", two)], spread=0.2),
            )
            for text, one, two in candidates
        ],
    )


def test_judges_are_counted_beside_the_ensemble() -> None:
    counter = AgreementCounter()
    counter.add(row(("a", 0.9, 0.3), ("bb", 0.1, 0.4)))
    counter.add(row(("a", 0.2, 0.1), ("bb", 0.8, 0.9)))
    agreement = counter.result()
    assert agreement is not None
    one, two = agreement.judges
    assert (agreement.items, agreement.chance, agreement.longest_chosen) == (2, 0.5, 0.5)
    assert (one.judge, one.same_choice, two.same_choice) == ("one", 1.0, 0.5)
    assert one.mean_score == pytest.approx(0.5)
    assert one.missing_mass == pytest.approx(0.1)
    assert one.correlation == pytest.approx(0.8**0.5)


def test_rows_that_failed_or_have_one_candidate_say_nothing() -> None:
    counter = AgreementCounter()
    counter.add(RunSample("item", error=InternalError("x"), candidates=row(("a", 1, 1), ("b", 1, 1)).candidates))
    counter.add(row(("a", 1, 1)))
    assert counter.result() is None


def test_a_constant_ranker_has_no_correlation() -> None:
    counter = AgreementCounter()
    counter.add(row(("a", 0.5, 0.5), ("bb", 0.5, 0.5)))
    agreement = counter.result()
    assert agreement is not None and agreement.length_correlation is None


@given(st.lists(st.tuples(st.text(max_size=9), st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=6))
def test_shares_and_correlations_stay_in_their_ranges(candidates: list[tuple[str, float, float]]) -> None:
    counter = AgreementCounter()
    counter.add(row(*candidates))
    agreement = counter.result()
    assert agreement is not None
    for judge in agreement.judges:
        assert 0 <= judge.same_choice <= 1
        assert judge.correlation is None or -1.001 <= judge.correlation <= 1.001
