from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ilf_common.engine.sampling import UniformStreams, sample_tokens

torch.set_num_threads(1)


def draw(logits: torch.Tensor, temperature: float, top_p: float, uniforms: list[float]) -> list[int]:
    rows = len(uniforms)
    tokens = sample_tokens(
        logits.expand(rows, -1), torch.full((rows,), temperature), torch.full((rows,), top_p), torch.tensor(uniforms)
    )
    return [int(token) for token in tokens]


def test_temperature_zero_takes_the_likeliest_token() -> None:
    assert draw(torch.tensor([0.1, 3.0, 0.2]), 0.0, 1.0, [0.0, 0.999]) == [1, 1]


def test_greedy_and_sampled_rows_share_a_batch() -> None:
    logits = torch.tensor([[0.0, 0.1, 0.0], [0.0, 0.0, 9.0]])
    tokens = sample_tokens(logits, torch.tensor([0.0, 1.0]), torch.ones(2), torch.tensor([0.99, 0.5]))
    assert tokens.tolist() == [1, 2]


def test_samples_follow_the_softmax() -> None:
    logits = torch.tensor([1.0, 0.0, -1.0, 2.0])
    uniforms = [(i + 0.5) / 4000 for i in range(4000)]
    drawn = torch.bincount(torch.tensor(draw(logits, 1.0, 1.0, uniforms)), minlength=4) / 4000
    assert torch.allclose(drawn, torch.softmax(logits, -1), atol=2e-3)


def test_temperature_sharpens_the_distribution() -> None:
    logits = torch.tensor([1.0, 0.0])
    uniforms = [(i + 0.5) / 1000 for i in range(1000)]
    share = draw(logits, 0.5, 1.0, uniforms).count(0) / 1000
    assert abs(share - float(torch.softmax(logits / 0.5, -1)[0])) < 2e-3


def test_the_nucleus_is_the_smallest_set_that_reaches_top_p() -> None:
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))
    uniforms = [(i + 0.5) / 1000 for i in range(1000)]
    assert set(draw(logits, 1.0, 0.79, uniforms)) == {0, 1}
    assert set(draw(logits, 1.0, 0.9, uniforms)) == {0, 1, 2}
    assert set(draw(logits, 1.0, 0.01, uniforms)) == {0}


def test_a_flat_distribution_over_a_large_vocabulary_is_sampled_whole() -> None:
    uniforms = [(i + 0.5) / 500 for i in range(500)]
    assert len(set(draw(torch.zeros(500), 1.0, 1.0, uniforms))) == 500


@settings(max_examples=60)
@given(
    values=st.lists(st.floats(-8, 8, width=32), min_size=2, max_size=150),
    top_p=st.floats(0.0625, 1.0, width=32),
    uniform=st.floats(0.0, 0.9375, width=32),
)
def test_a_drawn_token_always_lies_in_the_nucleus(values: list[float], top_p: float, uniform: float) -> None:
    logits = torch.tensor(values)
    [token] = draw(logits, 1.0, top_p, [uniform])
    probabilities = torch.softmax(logits, -1)
    likelier = float(probabilities[probabilities > probabilities[token]].double().sum())
    assert likelier < top_p + 1e-5


def test_a_row_draws_the_same_numbers_whatever_its_neighbours() -> None:
    alone, together = UniformStreams([7]), UniformStreams([1, 7, 2**63 - 1])
    for step in range(150):
        if step == 70:
            together.keep([1])
        row = 0 if step >= 70 else 1
        assert alone.next()[0] == together.next()[row]


def test_neighbouring_and_far_seeds_differ() -> None:
    numbers = UniformStreams([5, 6, 5 + 2**32]).next()
    assert len(set(numbers.tolist())) == 3
