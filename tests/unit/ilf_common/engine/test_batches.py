from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilf_common.engine.batches import Encoded, cut
from ilf_common.engine.door import check_length, check_token_ids
from ilf_common.engine.port import GenerateRequest, Sampling
from ilf_common.errors import InvalidArgumentError


def encoded(sizes: list[int]) -> list[Encoded[GenerateRequest]]:
    return [Encoded(i, GenerateRequest("p", Sampling(n=n), seed=i), [1], []) for i, n in enumerate(sizes)]


@given(sizes=st.lists(st.integers(1, 40), max_size=50), batch_size=st.integers(1, 32))
def test_batches_keep_order_and_size_and_split_no_request(sizes: list[int], batch_size: int) -> None:
    requests = encoded(sizes)
    batches = list(cut(requests, batch_size))
    assert [one for batch in batches for one in batch] == requests
    assert all(sum(one.sequences for one in batch) <= batch_size or len(batch) == 1 for batch in batches)


def test_a_full_batch_is_made_before_the_next_one_is_begun() -> None:
    assert [len(batch) for batch in cut(encoded([5, 5, 5, 5, 5]), 10)] == [2, 2, 1]


@pytest.mark.parametrize(("prompt", "completion", "reason"), [(8, 0, "PROMPT_TOO_LONG"), (5, 3, "PROMPT_TOO_LONG")])
def test_what_leaves_no_room_for_a_token_is_refused(prompt: int, completion: int, reason: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        check_length([1] * prompt, [1] * completion, 8)
    assert caught.value.reason == reason
    check_length([1] * 7, [], 8)


def test_a_prompt_without_tokens_is_refused() -> None:
    with pytest.raises(InvalidArgumentError):
        check_length([], [1], 8)


@pytest.mark.parametrize("token_ids", [(), (-1,), (10,), tuple(range(10)) * 13])
def test_token_ids_out_of_range_are_refused(token_ids: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        check_token_ids(token_ids, 10)
    assert caught.value.violations[0].field == "token_ids"
