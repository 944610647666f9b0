import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilf_common.errors import InvalidArgumentError
from services.orchestrator.splitting import ContextOrder, iteration_of

CONTEXTS = st.lists(st.text(max_size=8), min_size=6, max_size=60)


def order_of(contexts: list[str], seed: int) -> ContextOrder:
    order = ContextOrder(seed)
    for context in contexts:
        order.add(context)
    return order


@given(CONTEXTS, st.integers(1, 4), st.integers(0, 2**64 - 1))
def test_parts_are_disjoint_cover_all_and_differ_by_one_at_most(contexts: list[str], parts: int, seed: int) -> None:
    different = set(contexts)
    if len(different) < parts:
        return
    boundaries = order_of(contexts, seed).boundaries(parts, 0)
    owners = {context: iteration_of(boundaries, seed, context) for context in different}
    sizes = [sum(owner == part for owner in owners.values()) for part in range(1, parts + 1)]
    assert sum(sizes) == len(different)
    assert max(sizes) - min(sizes) <= 1


@given(CONTEXTS, st.integers(0, 99))
def test_a_size_takes_exactly_so_many_contexts(contexts: list[str], seed: int) -> None:
    different = set(contexts)
    if len(different) < 4:
        return
    boundaries = order_of(contexts, seed).boundaries(2, 2)
    owners = [iteration_of(boundaries, seed, context) for context in different]
    assert owners.count(1) == owners.count(2) == 2
    assert owners.count(None) == len(different) - 4


def test_the_seed_decides_who_is_where() -> None:
    contexts = [f"context {n}" for n in range(100)]
    halves = []
    for seed in (1, 2):
        boundaries = order_of(contexts, seed).boundaries(2, 0)
        halves.append([iteration_of(boundaries, seed, context) for context in contexts])
    assert halves[0] != halves[1]


@pytest.mark.parametrize(("parts", "size", "field"), [(4, 0, "iterations"), (2, 2, "contexts_per_iteration")])
def test_too_few_contexts_are_refused_with_both_numbers(parts: int, size: int, field: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        order_of(["a", "b", "c", "c"], 0).boundaries(parts, size)
    assert caught.value.violations[0].field == field
    assert "has 3" in caught.value.violations[0].description
