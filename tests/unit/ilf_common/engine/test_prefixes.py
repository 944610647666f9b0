from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ilf_common.engine.prefixes import Family, families, is_worth_sharing

STEM = list(range(100, 140))
prompt_lists = st.lists(
    st.tuples(st.integers(0, 40), st.lists(st.integers(0, 3), min_size=1, max_size=30)), min_size=1, max_size=12
).map(lambda parts: [STEM[:size] + tail for size, tail in parts])


@given(prompts=prompt_lists)
def test_families_cover_the_prompts_in_order_and_share_what_they_say(prompts: list[list[int]]) -> None:
    found = families(prompts)
    assert [row for family in found for row in range(family.start, family.end)] == list(range(len(prompts)))
    for family in found:
        members = prompts[family.start : family.end]
        assert all(len(member) > family.shared for member in members)
        assert all(member[: family.shared] == members[0][: family.shared] for member in members)


def test_candidates_of_one_item_are_one_family() -> None:
    prompts = [[*STEM, 1, 9], [*STEM, 2], [*STEM, 3, 3, 9], [7] * 30]
    assert families(prompts) == [Family(0, 3, 40), Family(3, 4, 29)]


def test_sharing_pays_only_when_much_is_shared() -> None:
    alike, unlike = [[*STEM, i] for i in range(4)], [[i] * 20 for i in range(4)]
    assert is_worth_sharing(alike, families(alike))
    assert not is_worth_sharing(unlike, families(unlike))


def test_short_prompts_share_nothing() -> None:
    assert len(families([[1, 2, 3], [1, 2, 4]])) == 2
