from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.refinement.models import SampleItem
from services.refinement.sampling import item_seed

seeds = st.integers(0, 2**64 - 1)


@given(seeds, st.text(max_size=10), st.none() | seeds)
def test_seeds_stay_in_the_engines_range_and_follow_from_the_request(call: int, item_id: str, own: int | None) -> None:
    seed = item_seed(call, SampleItem(item_id, "c", seed=own))

    assert 0 <= seed < 2**63
    assert seed == item_seed(call, SampleItem(item_id, "another", seed=own))
    if own is not None:
        assert seed == own % 2**63


def test_items_of_one_call_get_seeds_of_their_own() -> None:
    assert len({item_seed(1, SampleItem(str(k), "c")) for k in range(1000)}) == 1000
