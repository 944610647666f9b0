from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.seeds import SEED_RANGE, item_seed


@given(st.integers(0, 2**64 - 1), st.integers(0, 50), st.sampled_from(["generate", "refine"]), st.text())
def test_seeds_are_in_range_and_repeat(run_seed: int, iteration: int, stage: str, item_id: str) -> None:
    seed = item_seed(run_seed, iteration, stage, item_id)
    assert 0 <= seed < SEED_RANGE
    assert seed == item_seed(run_seed, iteration, stage, item_id)


def test_every_part_of_the_name_changes_the_seed() -> None:
    seeds = {
        item_seed(1, 1, "refine", "a"),
        item_seed(2, 1, "refine", "a"),
        item_seed(1, 2, "refine", "a"),
        item_seed(1, 1, "generate", "a"),
        item_seed(1, 1, "refine", "b"),
    }
    assert len(seeds) == 5


def test_seeds_stay_what_they_were_in_earlier_releases() -> None:
    assert item_seed(7, 1, "refine", "train-0") == 3144341363951107890
