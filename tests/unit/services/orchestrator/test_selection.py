import math

from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.models import SelectionMethod, SelectStage
from services.orchestrator.selection import choose, weights

SCORES = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12)


@given(SCORES)
def test_argmax_gives_all_weight_to_the_first_of_the_best(scores: list[float]) -> None:
    best = scores.index(max(scores))
    assert choose(scores) == best
    found = weights(scores, SelectStage(SelectionMethod.ARGMAX))
    assert found == tuple(float(index == best) for index in range(len(scores)))


@given(SCORES, st.floats(0.0, 1e6))
def test_softmax_weights_sum_to_one_and_follow_the_scores(scores: list[float], beta: float) -> None:
    found = weights(scores, SelectStage(SelectionMethod.SOFTMAX, beta=beta))
    assert math.isclose(math.fsum(found), 1.0, abs_tol=1e-12)
    assert all(weight >= 0 for weight in found)
    for one, left in zip(scores, found, strict=True):
        for other, right in zip(scores, found, strict=True):
            assert one < other or left >= right


@given(SCORES)
def test_softmax_without_beta_is_the_plain_mean(scores: list[float]) -> None:
    found = weights(scores, SelectStage(SelectionMethod.SOFTMAX, beta=0.0))
    assert all(math.isclose(weight, 1 / len(scores)) for weight in found)


def test_a_large_beta_approaches_argmax() -> None:
    scores = [0.2, 0.9, 0.5]
    assert weights(scores, SelectStage(SelectionMethod.SOFTMAX, beta=1e5)) == (0.0, 1.0, 0.0)


@given(SCORES, st.integers(1, 12))
def test_top_k_shares_the_weight_among_the_best(scores: list[float], k: int) -> None:
    found = weights(scores, SelectStage(SelectionMethod.TOP_K, k=k))
    kept = [index for index, weight in enumerate(found) if weight]
    assert len(kept) == min(k, len(scores))
    assert math.isclose(math.fsum(found), 1.0)
    assert sorted((scores[index] for index in kept), reverse=True) == sorted(scores, reverse=True)[: len(kept)]
