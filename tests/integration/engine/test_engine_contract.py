"""What every text engine promises, asked of transformers and of vLLM with the same tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
import torch

from ilf_common.engine.build import build_engine
from ilf_common.engine.port import (
    FinishReason,
    GenerateRequest,
    Generation,
    NextTokenRequest,
    Sampling,
    ScoreRequest,
    TextEngine,
)
from ilf_common.engine.settings import EngineSettings
from ilf_common.errors import FailedPreconditionError, InvalidArgumentError, UnavailableError
from tests.tiny_models import build_tiny_adapter, build_tiny_model, tiny_sentence

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

WINDOW = 128
GREEDY = Sampling(temperature=0.0, max_new_tokens=10)
PROMPTS = [tiny_sentence(seed, 6 + 3 * seed) for seed in range(5)]


class Reference:
    """Plain transformers on the same checkpoint, one prompt at a time."""

    def __init__(self, path: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.set_num_threads(1)
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()

    def prompt_ids(self, prompt: str) -> list[int]:
        if not self.tokenizer.chat_template:
            return list(self.tokenizer.encode(prompt))
        messages = [{"role": "user", "content": prompt}]
        return list(self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False))

    def eos(self) -> int:
        name = "<|im_end|>" if self.tokenizer.chat_template else "<eos>"
        return int(self.tokenizer.convert_tokens_to_ids(name))

    @torch.no_grad()
    def greedy(self, prompt: str, max_new_tokens: int = GREEDY.max_new_tokens) -> str:
        ids = torch.tensor([self.prompt_ids(prompt)])
        stops = [self.tokenizer.eos_token_id, self.eos()]
        output = self.model.generate(ids, do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=stops)
        return str(self.tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True))

    @torch.no_grad()
    def next_logprobs(self, ids: list[int]) -> torch.Tensor:
        return torch.log_softmax(self.model(torch.tensor([ids])).logits[0].double(), dim=-1)

    def score(self, prompt: str, text: str, add_eos: bool) -> tuple[float, int]:
        prompt_ids = self.prompt_ids(prompt)
        completion = list(self.tokenizer.encode(text, add_special_tokens=False)) + ([self.eos()] if add_eos else [])
        logprobs = self.next_logprobs(prompt_ids + completion)
        start = len(prompt_ids) - 1
        return sum(float(logprobs[start + i, token]) for i, token in enumerate(completion)), len(completion)


@dataclass
class Subject:
    """An engine under test with what the tests compare it to."""

    engine: TextEngine
    reference: Reference
    path: Path
    other_path: Path
    adapter: Path
    adapted: Reference
    kill: Callable[[], Awaitable[None]]

    async def texts(self, prompts: list[str] = PROMPTS, adapter: str | None = None) -> list[str]:
        requests = [GenerateRequest(prompt, GREEDY, seed=1, adapter=adapter) for prompt in prompts]
        return [value.samples[0].text for value in await values(self.engine.generate(requests))]


async def values(outcomes: AsyncIterator[Any]) -> list[Any]:
    """The values in the order of the requests; any error fails the test."""
    found = {outcome.index: outcome async for outcome in outcomes}
    assert sorted(found) == list(range(len(found)))
    assert not [outcome.error for outcome in found.values() if outcome.error]
    return [found[index].value for index in range(len(found))]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=[("transformers", False), ("transformers", True), ("vllm", True)],
    ids=["transformers-plain", "transformers-chat", "vllm-chat"],
)
async def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Subject]:
    kind, chat = request.param
    root = tmp_path_factory.mktemp(kind)
    path = build_tiny_model(root / "model", chat=chat)
    other = build_tiny_model(root / "other", chat=chat, seed=7)
    adapter = build_tiny_adapter(root / "adapter", path)
    settings = EngineSettings(
        kind=kind, device="cpu", max_model_len=WINDOW, batch_size=16, max_lora_rank=8, kv_cache_gib=0.25, threads=1
    )
    engine = build_engine(str(path), settings)
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    await engine.start()

    async def kill() -> None:
        if kind == "transformers":
            await engine.stop()
            return
        for process in psutil.Process().children(recursive=True):
            if process.pid not in before and "EngineCore" in process.name():
                process.kill()
        await until(lambda: engine._engine.errored)  # type: ignore[attr-defined]

    adapted = Reference(path)
    adapted.model.load_adapter(str(adapter))
    yield Subject(engine, Reference(path), path, other, adapter, adapted, kill)
    await engine.stop()


async def test_greedy_texts_equal_those_of_plain_transformers(subject: Subject) -> None:
    assert await subject.texts() == [subject.reference.greedy(prompt) for prompt in PROMPTS]


async def test_a_prompt_is_counted_with_its_special_tokens_and_chat_template(subject: Subject) -> None:
    assert subject.engine.count_prompt_tokens(PROMPTS[0]) == len(subject.reference.prompt_ids(PROMPTS[0]))
    [generation] = await values(subject.engine.generate([GenerateRequest(PROMPTS[0], GREEDY, seed=0)]))
    assert generation.prompt_tokens == len(subject.reference.prompt_ids(PROMPTS[0]))


async def test_a_seed_reproduces_its_samples_in_the_same_batch(subject: Subject) -> None:
    sampling = Sampling(n=3, max_new_tokens=6)
    requests = [GenerateRequest(prompt, sampling, seed=index) for index, prompt in enumerate(PROMPTS)]
    first = await values(subject.engine.generate(requests))
    again = await values(subject.engine.generate(requests))
    assert _texts(first) == _texts(again)


async def test_another_seed_gives_other_samples(subject: Subject) -> None:
    sampling = Sampling(n=1, max_new_tokens=10)
    requests = [GenerateRequest(PROMPTS[0], sampling, seed=seed) for seed in range(6)]
    assert len({texts for [texts] in _texts(await values(subject.engine.generate(requests)))}) > 1


async def test_n_samples_come_in_order_and_differ(subject: Subject) -> None:
    request = GenerateRequest(PROMPTS[1], Sampling(n=20, max_new_tokens=8), seed=3)
    [generation] = await values(subject.engine.generate([request]))
    assert len(generation.samples) == 20
    assert len({sample.text for sample in generation.samples}) > 10
    assert all(sample.token_count <= 8 and sample.logprob < 0 for sample in generation.samples)


async def test_the_logprob_of_a_sample_is_raw_whatever_the_temperature(subject: Subject) -> None:
    sampling = Sampling(n=16, temperature=0.5, top_p=0.8, max_new_tokens=1)
    [generation] = await values(subject.engine.generate([GenerateRequest(PROMPTS[2], sampling, seed=5)]))
    reference = subject.reference
    logprobs = reference.next_logprobs(reference.prompt_ids(PROMPTS[2]))[-1]
    shown = [sample for sample in generation.samples if sample.text]
    ids = [reference.tokenizer.convert_tokens_to_ids(sample.text) for sample in shown]
    assert len(set(ids)) > 1
    assert [sample.logprob for sample in shown] == pytest.approx([float(logprobs[one]) for one in ids], abs=1e-3)


async def test_generation_ends_before_a_stop_string(subject: Subject) -> None:
    whole = subject.reference.greedy(PROMPTS[0])
    stop = whole[4:7]
    sampling = Sampling(temperature=0.0, max_new_tokens=GREEDY.max_new_tokens, stop=("never seen", stop))
    [generation] = await values(subject.engine.generate([GenerateRequest(PROMPTS[0], sampling, seed=0)]))
    assert generation.samples[0].text == whole[: whole.index(stop)]
    assert generation.samples[0].finish_reason is FinishReason.STOP


async def test_generation_ends_at_the_token_limit(subject: Subject) -> None:
    requests = [GenerateRequest(PROMPTS[0], Sampling(temperature=0.0, max_new_tokens=size), seed=0) for size in (1, 4)]
    one, four = await values(subject.engine.generate(requests))
    assert (one.samples[0].token_count, four.samples[0].token_count) == (1, 4)
    assert four.samples[0].text == subject.reference.greedy(PROMPTS[0], 4)
    assert four.samples[0].finish_reason is FinishReason.LENGTH


async def test_generation_ends_at_the_window(subject: Subject) -> None:
    room = 3
    overhead = subject.engine.count_prompt_tokens("the") - 1
    prompt = tiny_sentence(1, WINDOW - overhead - room)
    [generation] = await values(subject.engine.generate([GenerateRequest(prompt, Sampling(max_new_tokens=50), seed=0)]))
    assert generation.samples[0].token_count <= room


async def test_a_prompt_that_is_too_long_fails_alone(subject: Subject) -> None:
    prompts = [PROMPTS[0], tiny_sentence(0, WINDOW + 5), PROMPTS[1]]
    requests = [GenerateRequest(prompt, GREEDY, seed=0) for prompt in prompts]
    outcomes = {outcome.index: outcome async for outcome in subject.engine.generate(requests)}
    assert isinstance(outcomes[1].error, InvalidArgumentError)
    assert outcomes[1].error.reason == "PROMPT_TOO_LONG"
    assert [violation.field for violation in outcomes[1].error.violations] == ["prompt"]
    for index in (0, 2):
        value = outcomes[index].value
        assert value is not None and value.samples[0].text == subject.reference.greedy(prompts[index])


async def test_closing_the_iterator_aborts_and_leaves_the_engine_free(subject: Subject) -> None:
    requests = [GenerateRequest(PROMPTS[0], Sampling(n=8, max_new_tokens=90), seed=seed) for seed in range(400)]
    async with aclosing(subject.engine.generate(requests)) as outcomes:  # type: ignore[type-var]
        await anext(outcomes)
    async with asyncio.timeout(20):
        assert await subject.texts([PROMPTS[0]]) == [subject.reference.greedy(PROMPTS[0])]


@pytest.mark.parametrize("add_eos", [True, False])
async def test_a_score_equals_a_forward_pass(subject: Subject, add_eos: bool) -> None:
    pairs = [(prompt, tiny_sentence(40 + index, 1 + 4 * index)) for index, prompt in enumerate(PROMPTS)]
    scores = await values(subject.engine.score([ScoreRequest(*pair, add_eos=add_eos) for pair in pairs]))
    expected = [subject.reference.score(*pair, add_eos=add_eos) for pair in pairs]
    assert [score.token_count for score in scores] == [count for _, count in expected]
    assert [score.logprob for score in scores] == pytest.approx([total for total, _ in expected], abs=1e-3)


async def test_next_token_logprobs_are_exact(subject: Subject) -> None:
    token_ids = (20, 7, 5, 20)
    answers = await values(subject.engine.next_token_logprobs([NextTokenRequest(p, token_ids) for p in PROMPTS]))
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        logprobs = subject.reference.next_logprobs(subject.reference.prompt_ids(prompt))[-1]
        assert answer == pytest.approx([float(logprobs[token]) for token in token_ids], abs=1e-4)


async def test_unknown_token_ids_and_empty_texts_are_refused_alone(subject: Subject) -> None:
    requests = [NextTokenRequest(PROMPTS[0], ids) for ids in ((5,), (10_000,), (), (-1,))]
    outcomes = {outcome.index: outcome async for outcome in subject.engine.next_token_logprobs(requests)}
    assert outcomes[0].error is None
    assert all(isinstance(outcomes[index].error, InvalidArgumentError) for index in (1, 2, 3))


async def test_an_adapter_changes_the_outputs_and_unloading_restores_them(subject: Subject) -> None:
    await subject.engine.load_adapter("run.1/it-1", subject.adapter)
    adapted = [subject.adapted.greedy(prompt) for prompt in PROMPTS]
    bare = [subject.reference.greedy(prompt) for prompt in PROMPTS]
    assert adapted != bare
    requests = [GenerateRequest(p, GREEDY, seed=0, adapter=name) for p in PROMPTS for name in (None, "run.1/it-1")]
    mixed = [value.samples[0].text for value in await values(subject.engine.generate(requests))]
    assert (mixed[::2], mixed[1::2]) == (bare, adapted)
    await subject.engine.unload_adapter("run.1/it-1")
    assert await subject.texts() == bare
    [outcome] = [one async for one in subject.engine.generate(requests[1:2])]
    assert outcome.error is not None and outcome.error.reason == "ADAPTER_NOT_FOUND"


async def test_an_adapter_name_is_never_used_twice(subject: Subject) -> None:
    await subject.engine.load_adapter("once", subject.adapter)
    await subject.engine.unload_adapter("once")
    with pytest.raises(FailedPreconditionError):
        await subject.engine.load_adapter("once", subject.adapter)


async def test_adapters_that_do_not_fit_are_refused_and_change_nothing(subject: Subject, tmp_path: Path) -> None:
    before = await subject.engine.weights_checksum()
    large = build_tiny_adapter(tmp_path / "rank", subject.path, rank=16)
    foreign = build_tiny_adapter(tmp_path / "foreign", build_tiny_model(tmp_path / "wide", hidden=96))
    for name, path in {"large": large, "foreign": foreign, "nothing": tmp_path}.items():
        with pytest.raises(FailedPreconditionError) as caught:
            await subject.engine.load_adapter(name, path)
        assert caught.value.reason == "CHECKPOINT_UNSUPPORTED"
    assert await subject.engine.weights_checksum() == before
    assert await subject.texts() == [subject.reference.greedy(prompt) for prompt in PROMPTS]


async def test_checksums_tell_adapters_apart_and_repeat(subject: Subject, tmp_path: Path) -> None:
    bare = await subject.engine.weights_checksum()
    other = build_tiny_adapter(tmp_path / "other", subject.path, seed=9)
    for name, path in {"sum/a": subject.adapter, "sum/b": subject.adapter, "sum/c": other}.items():
        await subject.engine.load_adapter(name, path)
    a, b, c = [await subject.engine.weights_checksum(name) for name in ("sum/a", "sum/b", "sum/c")]
    assert a == b != c
    assert await subject.engine.weights_checksum() == bare
    for name in ("sum/a", "sum/b", "sum/c"):
        await subject.engine.unload_adapter(name)


async def test_reloaded_weights_serve_and_change_the_checksum(subject: Subject) -> None:
    original = await subject.engine.weights_checksum()
    await subject.engine.reload_weights(subject.other_path)
    changed = await subject.engine.weights_checksum()
    assert changed != original
    assert await subject.texts() == [Reference(subject.other_path).greedy(prompt) for prompt in PROMPTS]
    await subject.engine.reload_weights(subject.path)
    assert await subject.engine.weights_checksum() == original
    assert await subject.texts() == [subject.reference.greedy(prompt) for prompt in PROMPTS]


async def test_a_checkpoint_of_another_shape_is_refused_and_the_weights_stay(subject: Subject, tmp_path: Path) -> None:
    original = await subject.engine.weights_checksum()
    with pytest.raises(FailedPreconditionError):
        await subject.engine.reload_weights(build_tiny_model(tmp_path, hidden=96))
    assert await subject.engine.weights_checksum() == original


async def test_a_dead_engine_is_unavailable(subject: Subject) -> None:
    await subject.engine.check_health()
    await subject.kill()
    with pytest.raises(UnavailableError):
        await subject.engine.check_health()
    with pytest.raises(UnavailableError):
        await subject.texts()


def _texts(generations: list[Generation]) -> list[list[str]]:
    return [[sample.text for sample in generation.samples] for generation in generations]
