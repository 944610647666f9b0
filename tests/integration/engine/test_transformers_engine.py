"""What only the transformers engine promises: same bytes, independence of padding, fair turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import torch

from ilf_common.engine.port import GenerateRequest, NextTokenRequest, Sampling, ScoreRequest
from ilf_common.engine.settings import EngineSettings
from ilf_common.engine.transformers_engine import TransformersEngine
from ilf_common.errors import FailedPreconditionError, ResourceExhaustedError
from tests.tiny_models import build_tiny_model, tiny_sentence

pytestmark = pytest.mark.asyncio(loop_scope="module")
PROMPTS = [tiny_sentence(seed, 3 + 5 * seed) for seed in range(8)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return build_tiny_model(tmp_path_factory.mktemp("model"))


async def started(model: Path, **fields: Any) -> TransformersEngine:
    engine = TransformersEngine(str(model), EngineSettings(device="cpu", threads=1, **fields))
    await engine.start()
    return engine


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(model: Path) -> AsyncIterator[TransformersEngine]:
    engine = await started(model, batch_size=8)
    yield engine
    await engine.stop()


async def values(outcomes: AsyncIterator[Any]) -> list[Any]:
    found = {outcome.index: outcome.value async for outcome in outcomes}
    return [found[index] for index in range(len(found))]


async def test_the_same_call_gives_the_same_bytes_in_another_process_life(
    model: Path, engine: TransformersEngine
) -> None:
    requests = [GenerateRequest(prompt, Sampling(n=3), seed=index) for index, prompt in enumerate(PROMPTS)]
    first = await values(engine.generate(requests))
    other = await started(model, batch_size=8)
    # Another call in between must not change how this one is batched.
    between = asyncio.create_task(values(other.generate(requests[:3])))
    again = await values(other.generate(requests))
    await between
    await other.stop()
    assert first == again


async def test_scores_do_not_depend_on_the_batch(engine: TransformersEngine) -> None:
    requests = [ScoreRequest(prompt, tiny_sentence(90 + i, 1 + 3 * i)) for i, prompt in enumerate(PROMPTS)]
    together = await values(engine.score(requests))
    alone = [(await values(engine.score([request])))[0] for request in requests]
    assert [one.logprob for one in together] == pytest.approx([one.logprob for one in alone], abs=1e-4)


async def test_scores_do_not_depend_on_how_much_fits_into_memory(model: Path, engine: TransformersEngine) -> None:
    long_texts = [ScoreRequest(prompt, tiny_sentence(i, 300)) for i, prompt in enumerate(PROMPTS)]
    small = await started(model, score_logits_mib=1)
    parts = await values(small.score(long_texts))
    await small.stop()
    whole = await values(engine.score(long_texts))
    assert [one.logprob for one in parts] == pytest.approx([one.logprob for one in whole], abs=1e-3)


async def test_shared_prefixes_do_not_change_next_token_logprobs(engine: TransformersEngine) -> None:
    stems = [tiny_sentence(seed, 30 + 7 * seed) for seed in range(2)]
    prompts = [f"{stem} {tiny_sentence(seed, 1 + 2 * seed)}" for stem in stems for seed in range(4)]
    requests = [NextTokenRequest(prompt, (5, 20, 33)) for prompt in prompts]
    together = await values(engine.next_token_logprobs(requests))
    alone = [(await values(engine.next_token_logprobs([request])))[0] for request in requests]
    for one, other in zip(together, alone, strict=True):
        assert one == pytest.approx(other, abs=1e-4)


async def test_more_samples_than_a_batch_holds_are_all_drawn(engine: TransformersEngine) -> None:
    requests = [
        GenerateRequest(prompt, Sampling(n=n, max_new_tokens=4), seed=9)
        for prompt, n in zip(PROMPTS[:3], (1, 19, 2), strict=True)
    ]
    generations = await values(engine.generate(requests))
    assert [len(one.samples) for one in generations] == [1, 19, 2]


async def test_a_sample_does_not_depend_on_its_neighbours_randomness(engine: TransformersEngine) -> None:
    request = GenerateRequest(PROMPTS[2], Sampling(n=2, max_new_tokens=8), seed=4)
    [alone] = await values(engine.generate([request]))
    others = [GenerateRequest(PROMPTS[2], Sampling(n=2, max_new_tokens=8), seed=seed) for seed in (70, 80)]
    together = await values(engine.generate([others[0], request, others[1]]))
    assert [sample.text for sample in together[1].samples] == [sample.text for sample in alone.samples]


async def test_long_generations_outgrow_the_reserved_cache(model: Path, engine: TransformersEngine) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    reference = AutoModelForCausalLM.from_pretrained(model)
    ids = torch.tensor([tokenizer.encode(PROMPTS[0])])
    expected = reference.generate(ids, do_sample=False, max_new_tokens=200)[0, ids.shape[1] :]
    greedy = Sampling(temperature=0.0, max_new_tokens=200)
    [generation] = await values(engine.generate([GenerateRequest(PROMPTS[0], greedy, seed=0)]))
    assert generation.samples[0].text == tokenizer.decode(expected, skip_special_tokens=True)
    assert generation.samples[0].token_count == len(expected)


async def test_a_small_call_is_answered_before_a_huge_one_ends(engine: TransformersEngine) -> None:
    huge = [GenerateRequest(PROMPTS[0], Sampling(max_new_tokens=20), seed=seed) for seed in range(200)]
    order: list[str] = []

    async def run(name: str, requests: list[GenerateRequest]) -> None:
        await values(engine.generate(requests))
        order.append(name)

    await asyncio.gather(run("huge", huge), run("small", huge[:1]))
    assert order == ["small", "huge"]


async def test_a_full_queue_is_refused(model: Path) -> None:
    engine = await started(model, max_queue=4)
    requests = [GenerateRequest(PROMPTS[0], Sampling(max_new_tokens=60), seed=seed) for seed in range(4)]
    results = await asyncio.gather(
        values(engine.generate(requests)), values(engine.generate(requests)), return_exceptions=True
    )
    await engine.stop()
    assert isinstance(results[1], ResourceExhaustedError)
    assert not isinstance(results[0], BaseException)


async def test_a_model_that_cannot_be_loaded_is_refused(tmp_path: Path) -> None:
    engine = TransformersEngine(str(tmp_path), EngineSettings(device="cpu"))
    with pytest.raises(FailedPreconditionError) as caught:
        await engine.start()
    assert caught.value.reason == "CHECKPOINT_UNSUPPORTED"


async def test_a_gpus_settings_load_on_a_cpu_too(model: Path) -> None:
    engine = await started(model, dtype="bfloat16", attention="eager", device_map="auto")
    [generation] = await values(engine.generate([GenerateRequest(PROMPTS[0], Sampling(max_new_tokens=5), seed=0)]))
    await engine.stop()
    assert generation.samples[0].token_count <= 5
