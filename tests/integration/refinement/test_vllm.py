"""The refinement service on vLLM; one start, because a start takes a minute."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path

import grpc
import pytest
from ilf.common.v1 import common_pb2
from ilf.refinement.v1 import refinement_service_pb2 as pb

from ilf_common.artifacts import ArtifactStore
from ilf_common.engine.settings import EngineSettings
from ilf_common.rpc.status import from_rpc_error
from tests.integration.refinement.helpers import adapter, checkpoint, greedy, load, running_service
from tests.tiny_models import build_tiny_model, tiny_sentence

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]


async def test_batches_adapters_and_swaps_on_vllm(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "artifacts"))
    base = build_tiny_model(tmp_path / "base")
    engine = EngineSettings(kind="vllm", kv_cache_gib=0.25, max_model_len=256)
    async with running_service(tmp_path / "state", store, base, engine) as stub:
        before = await greedy(stub, "base")

        items = [pb.GenerateItem(item_id=str(k), context=tiny_sentence(k, 300 if k == 7 else 5)) for k in range(60)]
        sampling = common_pb2.SamplingParams(n=3, max_new_tokens=6, seed=1)
        answered = {}
        request = pb.BatchGenerateRequest(model="base", items=items, sampling=sampling)
        async for response in stub.BatchGenerate(request):
            answered |= {outcome.item_id: len(outcome.result.outputs) for outcome in response.outcomes}
        assert answered == {str(k): 0 if k == 7 else 3 for k in range(60)}

        # Adapters are swapped while calls run, and none fails.
        await load(stub, adapter(store, tmp_path, base, 1), base_model="base")
        answers: dict[str, set[str]] = {}
        swapping = True

        async def caller() -> None:
            while swapping:
                text, version = await greedy(stub, "run/it-1")
                answers.setdefault(version, set()).add(text)

        calling = asyncio.ensure_future(caller())
        for seed in (2, 3):
            loaded = await load(stub, adapter(store, tmp_path, base, seed), base_model="base", replace=True)
            while f"run/it-1@{loaded.digest}" not in answers:
                await asyncio.sleep(0.01)
        swapping = False
        await calling
        assert len(answers) == 3 and all(len(texts) == 1 for texts in answers.values())
        assert await greedy(stub, "base") == before

        # A whole checkpoint gets an engine of its own, and the next one takes its place there.
        await load(stub, checkpoint(store, tmp_path, 1), name="whole")
        first = await greedy(stub, "whole")
        await load(stub, checkpoint(store, tmp_path, 2), name="whole", replace=True)
        assert (await greedy(stub, "whole"))[0] != first[0]
        await load(stub, "checkpoint-1", name="whole", replace=True)
        assert await greedy(stub, "whole") == first

        store.local_path("checkpoint-2/model.safetensors").write_bytes(b"damaged")
        with pytest.raises(grpc.RpcError) as caught:
            await load(stub, "checkpoint-2", name="whole", replace=True)
        assert from_rpc_error(caught.value).reason == "CHECKPOINT_BROKEN"
        assert await greedy(stub, "whole") == first
