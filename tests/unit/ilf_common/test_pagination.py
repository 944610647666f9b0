from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilf_common.errors import InvalidArgumentError
from ilf_common.rpc.pagination import page


@given(st.sets(st.text(max_size=8), max_size=60), st.integers(1, 20))
def test_walking_the_pages_shows_every_item_once_and_in_order(names: set[str], size: int) -> None:
    seen: list[str] = []
    token = ""
    while True:
        items, token = page(names, size, token, key=str)
        assert len(items) <= size
        seen += items
        if not token:
            break
    assert seen == sorted(names)


def test_an_item_that_goes_between_two_pages_hides_no_other() -> None:
    first, token = page(["a", "b", "c", "d"], 2, "", key=str)
    second, _ = page(["c", "d"], 2, token, key=str)
    assert (first, second) == (["a", "b"], ["c", "d"])


def test_size_0_means_50_and_too_large_a_size_is_cut() -> None:
    names = [f"{number:05}" for number in range(3000)]
    assert len(page(names, 0, "", key=str)[0]) == 50
    assert len(page(names, 5000, "", key=str)[0]) == 1000


@pytest.mark.parametrize(
    ("size", "token", "field"), [(-1, "", "page_size"), (1, "?!", "page_token"), (1, "YWZ0ZXI6_w==", "page_token")]
)
def test_a_wrong_size_or_token_is_named(size: int, token: str, field: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        page(["a"], size, token, key=str)
    assert caught.value.violations[0].field == field
