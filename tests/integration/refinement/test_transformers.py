"""The refinement service on the real transformers engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from ilf.common.v1 import common_pb2
from ilf.refinement.v1 import refinement_service_pb2 as pb

from ilf_common.artifacts import ArtifactStore
from ilf_common.engine.settings import EngineSettings
from ilf_common.rpc.status import from_rpc_error
from tests.integration.refinement.helpers import adapter, checkpoint, greedy, load, running_service
from tests.tiny_models import build_tiny_model, tiny_sentence

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "artifacts"))


@pytest.fixture
async def stub(tmp_path: Path, base: Path, store: ArtifactStore) -> AsyncIterator[Any]:
    engine = EngineSettings(kind="transformers", device="cpu", threads=1)
    async with running_service(tmp_path / "state", store, base, engine) as stub:
        yield stub


async def test_the_same_batch_gives_the_same_bytes(stub: Any) -> None:
    request = pb.BatchRefineRequest(
        model="base",
        items=[
            pb.RefineItem(item_id=str(k), context=tiny_sentence(k, 4 + k % 9), initial_output="cat", feedback="dog")
            for k in range(40)
        ],
        sampling=common_pb2.SamplingParams(n=3, max_new_tokens=6, seed=1),
        post_processing=common_pb2.PostProcessing(normalize_whitespace=True, resample_budget=5),
    )

    async def answers() -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        async for response in stub.BatchRefine(request):
            found |= {outcome.item_id: outcome.SerializeToString() for outcome in response.outcomes}
        return found

    first = await answers()
    # Another call at the same time takes turns with it and changes nothing.
    second, _ = await asyncio.gather(answers(), greedy(stub, "base"))
    assert first == second
    assert len(first) == 40


async def test_sampled_log_probability_is_that_of_scoring_the_same_text(stub: Any) -> None:
    sampling = common_pb2.SamplingParams(temperature=1, top_p=1, max_new_tokens=200, seed=3, n=8)
    generated = await stub.Generate(pb.GenerateRequest(model="base", context="the cat", sampling=sampling))
    finished = [sample for sample in generated.outputs if sample.finish_reason == common_pb2.FINISH_REASON_STOP]
    assert finished

    for sample in finished:
        scored = await stub.ScoreText(pb.ScoreTextRequest(model="base", context="the cat", text=sample.text))
        if scored.token_count == sample.token_count:
            assert scored.logprob == pytest.approx(sample.logprob, abs=1e-3)


async def test_a_text_that_was_cut_has_the_log_probability_with_which_it_was_sampled(stub: Any) -> None:
    sampling = common_pb2.SamplingParams(temperature=1, top_p=1, max_new_tokens=3, seed=4, n=8)
    generated = await stub.Generate(pb.GenerateRequest(model="base", context="the cat", sampling=sampling))
    cut = [sample for sample in generated.outputs if sample.finish_reason == common_pb2.FINISH_REASON_LENGTH]
    assert cut

    for sample in cut:
        request = pb.ScoreTextRequest(model="base", context="the cat", text=sample.text, unfinished=True)
        scored = await stub.ScoreText(request)
        if scored.token_count == sample.token_count:
            assert scored.logprob == pytest.approx(sample.logprob, abs=1e-3)


async def test_prompt_longer_than_the_window_is_refused_alone(stub: Any) -> None:
    items = [pb.GenerateItem(item_id=str(k), context=tiny_sentence(k, 600 if k == 2 else 5)) for k in range(4)]
    failed = {}
    async for response in stub.BatchGenerate(pb.BatchGenerateRequest(model="base", items=items)):
        failed |= {outcome.item_id: outcome.HasField("error") for outcome in response.outcomes}

    assert failed == {"0": False, "1": False, "2": True, "3": False}


async def test_adapter_and_checkpoint_change_the_answers_of_their_own_name_alone(
    stub: Any, store: ArtifactStore, tmp_path: Path, base: Path
) -> None:
    before = await greedy(stub, "base")

    whole = await load(stub, checkpoint(store, tmp_path, 1), name="whole")
    part = await load(stub, adapter(store, tmp_path, base, 1), name="part", base_model="base")

    assert (whole.kind, part.kind) == (pb.POLICY_KIND_CHECKPOINT, pb.POLICY_KIND_ADAPTER)
    answers = {name: (await greedy(stub, name))[0] for name in ("base", "whole", "part")}
    assert len(set(answers.values())) == 3
    assert await greedy(stub, "base") == before


async def test_loading_back_the_first_checkpoint_gives_its_first_answers(
    stub: Any, store: ArtifactStore, tmp_path: Path
) -> None:
    first, second = checkpoint(store, tmp_path, 1), checkpoint(store, tmp_path, 2)
    await load(stub, first)
    before = await greedy(stub, "run/it-1")

    await load(stub, second, replace=True)
    between = await greedy(stub, "run/it-1")
    await load(stub, first, replace=True)

    assert between[0] != before[0]
    assert await greedy(stub, "run/it-1") == before


@pytest.mark.parametrize("kind", ["checkpoint", "adapter"])
async def test_no_call_fails_while_versions_are_swapped_under_load(
    stub: Any, store: ArtifactStore, tmp_path: Path, base: Path, kind: str
) -> None:
    def version(seed: int) -> str:
        return checkpoint(store, tmp_path, seed) if kind == "checkpoint" else adapter(store, tmp_path, base, seed)

    versions = [version(seed) for seed in range(1, 5)]
    answers: dict[str, set[str]] = {}
    callers: list[asyncio.Future[None]] = []
    swapping = True

    async def answer_of(version: Any) -> None:
        while f"run/it-1@{version.digest}" not in answers:
            for ended in (caller for caller in callers if caller.done()):
                ended.result()
            await asyncio.sleep(0.01)

    async def caller() -> None:
        while swapping:
            text, of = await greedy(stub, "run/it-1")
            answers.setdefault(of, set()).add(text)

    first = await load(stub, versions[0], base_model="base")
    callers += [asyncio.ensure_future(caller()) for _ in range(3)]
    await answer_of(first)
    for uri in versions[1:]:
        await answer_of(await load(stub, uri, base_model="base", replace=True))
    swapping = False
    await asyncio.gather(*callers)

    assert len(answers) == 4
    # Each version gave one greedy answer, so none was ever answered by another version's weights.
    assert all(len(texts) == 1 for texts in answers.values())


async def test_checkpoint_that_is_none_is_rolled_back(stub: Any, store: ArtifactStore, tmp_path: Path) -> None:
    await load(stub, checkpoint(store, tmp_path, 1))
    before = await greedy(stub, "run/it-1")
    broken = checkpoint(store, tmp_path, 2)
    with store.local_path(f"{broken}/model.safetensors").open("r+b") as file:
        file.seek(-8, 2)
        file.write(b"\x00" * 8)
    half = build_tiny_model(tmp_path / "half", seed=3)
    (half / "model.safetensors").write_bytes((half / "model.safetensors").read_bytes()[:1000])
    store.publish_directory(half, "half")

    reasons = []
    for uri in (broken, "half"):
        with pytest.raises(grpc.RpcError) as caught:
            await load(stub, uri, replace=True)
        reasons.append(from_rpc_error(caught.value).reason)

    assert reasons == ["CHECKPOINT_BROKEN", "CHECKPOINT_UNSUPPORTED"]
    assert await greedy(stub, "run/it-1") == before


async def test_adapter_of_another_shape_or_rank_is_refused(
    stub: Any, store: ArtifactStore, tmp_path: Path, base: Path
) -> None:
    other = build_tiny_model(tmp_path / "other", hidden=128)
    uris = [adapter(store, tmp_path, other, 1), adapter(store, tmp_path, base, 2, rank=128)]
    before = await greedy(stub, "base")

    for uri in uris:
        with pytest.raises(grpc.RpcError) as caught:
            await load(stub, uri, base_model="base")
        assert from_rpc_error(caught.value).reason == "CHECKPOINT_UNSUPPORTED"

    assert await greedy(stub, "base") == before
