from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from ilf.refinement.v1 import refinement_service_pb2 as pb

from ilf_common.errors import (
    FailedPreconditionError,
    IlfError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
)
from tests.rpc.refinement.harness import CheckpointEngine, Harness, fields, publish, refused, running_service


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with running_service(tmp_path) as harness:
        yield harness


def load(uri: str, name: str = "run/it-1", **changes: Any) -> pb.LoadPolicyRequest:
    return pb.LoadPolicyRequest(**{"request_id": str(uuid.uuid4()), "name": name, "uri": uri, **changes})


async def answer(harness: Harness, model: str = "run/it-1") -> tuple[str, str]:
    """A greedy answer of a model, and the version that gave it."""
    request = pb.GenerateRequest(model=model, context="a prompt")
    request.sampling.temperature = 0
    response = await harness.stub.Generate(request)
    return response.outputs[0].text, response.model_version


async def policy(harness: Harness, name: str = "run/it-1") -> pb.Policy:
    return await harness.stub.GetPolicy(pb.GetPolicyRequest(name=name))


async def names(harness: Harness) -> list[str]:
    response = await harness.stub.ListPolicies(pb.ListPoliciesRequest())
    return [policy.name for policy in response.policies]


async def unload(harness: Harness, name: str = "run/it-1") -> None:
    await harness.stub.UnloadPolicy(pb.UnloadPolicyRequest(name=name))


async def promote(harness: Harness, alias: str, name: str) -> pb.PolicyAlias:
    return await harness.stub.PromotePolicy(pb.PromotePolicyRequest(alias=alias, name=name))


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.001)


async def test_whole_checkpoint_serves_from_an_engine_of_its_own(harness: Harness) -> None:
    uri = harness.publish("runs/r/it-1/checkpoint", "one")

    loaded = await harness.stub.LoadPolicy(load(uri))

    assert loaded.state == pb.POLICY_STATE_SERVING
    assert loaded.kind == pb.POLICY_KIND_CHECKPOINT
    assert loaded.uri == uri
    assert loaded.digest == harness.store.read_manifest("runs/r/it-1/checkpoint").digest
    text, version = await answer(harness)
    assert version == f"run/it-1@{loaded.digest}"
    assert text != (await answer(harness, "base"))[0]
    assert harness.engine_of("runs/r/it-1/checkpoint").started


async def test_checkpoint_is_found_by_its_key_too(harness: Harness) -> None:
    harness.publish("c", "one")

    assert (await harness.stub.LoadPolicy(load("c"))).uri == harness.store.uri("c")


async def test_adapter_shares_the_engine_of_its_base(harness: Harness) -> None:
    uri = harness.publish_adapter("runs/r/it-1/checkpoint", "one")

    loaded = await harness.stub.LoadPolicy(load(uri, base_model="base"))

    assert loaded.kind == pb.POLICY_KIND_ADAPTER
    assert loaded.base_model == "base"
    assert list(harness.engines) == ["base-source"]
    assert len(harness.engines["base-source"].adapters) == 1
    assert (await answer(harness))[0] != (await answer(harness, "base"))[0]


async def test_configured_model_is_a_policy_with_its_source(harness: Harness) -> None:
    found = await policy(harness, "base")

    assert (found.uri, found.kind, found.state) == ("base-source", pb.POLICY_KIND_CHECKPOINT, pb.POLICY_STATE_SERVING)
    assert found.max_model_len == 4096
    assert found.digest


@pytest.mark.parametrize(
    ("key", "reason", "kind"),
    [
        ("nowhere", "CHECKPOINT_NOT_FOUND", NotFoundError),
        ("../outside", "URI_OUTSIDE_STORE", InvalidArgumentError),
        ("file:///etc", "URI_OUTSIDE_STORE", InvalidArgumentError),
        ("damaged", "CHECKPOINT_BROKEN", FailedPreconditionError),
        ("incomplete", "CHECKPOINT_BROKEN", FailedPreconditionError),
        ("no-model", "CHECKPOINT_UNSUPPORTED", FailedPreconditionError),
        ("wrong-kind", "CHECKPOINT_UNSUPPORTED", FailedPreconditionError),
        ("too-wide", "CHECKPOINT_UNSUPPORTED", FailedPreconditionError),
    ],
)
async def test_directory_that_cannot_be_served_is_refused_and_leaves_nothing_behind(
    harness: Harness, key: str, reason: str, kind: type[IlfError]
) -> None:
    harness.publish("damaged", "one")
    harness.store.local_path("damaged/model.safetensors").write_text("two")
    harness.publish("incomplete", "one")
    harness.store.local_path("incomplete/model.safetensors").unlink()
    publish(harness.store, "no-model", {"notes.txt": "nothing"})
    harness.publish_adapter("wrong-kind", "one", peft_type="IA3")
    harness.publish_adapter("too-wide", "one", rank=65)

    error = await refused(harness.stub.LoadPolicy(load(key, base_model="base")))

    assert isinstance(error, kind)
    assert error.reason == reason
    if isinstance(error, InvalidArgumentError):
        assert fields(error) == {"uri"}
    assert await names(harness) == ["base"]
    assert harness.engines["base-source"].adapters == {}


async def test_all_wrong_fields_of_a_load_are_named(harness: Harness) -> None:
    request = pb.LoadPolicyRequest(request_id="no-uuid", name="with spaces", base_model="-")

    error = await refused(harness.stub.LoadPolicy(request))

    assert isinstance(error, InvalidArgumentError)
    assert fields(error) == {"request_id", "name", "uri", "base_model"}


async def test_adapter_wants_a_served_whole_base(harness: Harness) -> None:
    uri = harness.publish_adapter("a", "one")
    await harness.stub.LoadPolicy(load(uri, base_model="base"))

    without = await refused(harness.stub.LoadPolicy(load(uri, name="two")))
    unknown = await refused(harness.stub.LoadPolicy(load(uri, name="two", base_model="other")))
    stacked = await refused(harness.stub.LoadPolicy(load(uri, name="two", base_model="run/it-1")))

    assert fields(without) == {"base_model"}
    assert unknown.reason == "MODEL_NOT_FOUND"
    assert fields(stacked) == {"base_model"}


async def test_loading_the_same_again_answers_the_version_that_is_there(harness: Harness) -> None:
    uri = harness.publish("c", "one")

    first = await harness.stub.LoadPolicy(load(uri))
    together = await asyncio.gather(*(harness.stub.LoadPolicy(load(uri)) for _ in range(5)))

    assert all(repeat == first for repeat in together)
    assert len(harness.engines) == 2


async def test_another_checkpoint_under_a_served_name_needs_replace(harness: Harness) -> None:
    await harness.stub.LoadPolicy(load(harness.publish("one", "one")))

    error = await refused(harness.stub.LoadPolicy(load(harness.publish("two", "two"))))

    assert isinstance(error, FailedPreconditionError)
    assert (error.reason, error.metadata["resource"]) == ("POLICY_CONFLICT", "run/it-1")


async def test_names_of_configured_models_and_aliases_cannot_be_loaded(harness: Harness) -> None:
    uri = harness.publish("one", "one")
    await promote(harness, "live", "base")

    for name in ("base", "live"):
        error = await refused(harness.stub.LoadPolicy(load(uri, name=name, replace=True)))
        assert error.reason == "POLICY_CONFLICT"


async def test_an_idle_version_is_replaced_in_place(harness: Harness) -> None:
    await harness.stub.LoadPolicy(load(harness.publish("one", "one")))
    before = await answer(harness)

    await harness.stub.LoadPolicy(load(harness.publish("two", "two"), replace=True))

    assert len(harness.engines) == 2
    assert harness.engine_of("one").reloads == [harness.store.local_path("two")]
    assert (await answer(harness))[0] != before[0]
    assert (await names(harness)).count("run/it-1") == 1


async def test_a_version_of_another_shape_gets_another_engine(harness: Harness) -> None:
    await harness.stub.LoadPolicy(load(harness.publish("one", "one")))

    await harness.stub.LoadPolicy(load(harness.publish("two", "two", config='{"layers": 2}'), replace=True))
    await until(lambda: not harness.engine_of("one").started)

    assert harness.engine_of("one").reloads == []
    assert harness.engine_of("two").started


async def test_a_version_in_use_serves_its_calls_to_the_end_while_new_ones_go_to_the_next(harness: Harness) -> None:
    await harness.stub.LoadPolicy(load(harness.publish("one", "one")))
    old = harness.engine_of("one")
    old_version = (await answer(harness))[1]
    old.gate.clear()
    running = asyncio.ensure_future(answer(harness))
    seen = len(old.requests)
    await until(lambda: len(old.requests) > seen)

    replaced = await harness.stub.LoadPolicy(load(harness.publish("two", "two"), replace=True))
    states = [(p.name, p.state) for p in (await harness.stub.ListPolicies(pb.ListPoliciesRequest())).policies]
    new_version = (await answer(harness))[1]
    old.gate.set()

    assert (await running)[1] == old_version
    assert new_version == f"run/it-1@{replaced.digest}" != old_version
    assert ("run/it-1", pb.POLICY_STATE_DRAINING) in states and ("run/it-1", pb.POLICY_STATE_SERVING) in states
    await until(lambda: not old.started)


@pytest.mark.parametrize("kind", ["checkpoint", "other_shape", "adapter"])
async def test_no_call_fails_during_swaps(harness: Harness, kind: str) -> None:
    def next_version(k: int) -> str:
        if kind == "adapter":
            return harness.publish_adapter(f"v{k}", f"weights {k}")
        return harness.publish(f"v{k}", f"weights {k}", config=str(k) if kind == "other_shape" else "{}")

    await harness.stub.LoadPolicy(load(next_version(0), base_model="base"))
    versions: list[str] = []
    swapping = True

    async def caller() -> None:
        while swapping:
            versions.append((await answer(harness))[1])

    callers = [asyncio.ensure_future(caller()) for _ in range(4)]
    await until(lambda: bool(versions))
    for k in range(1, 6):
        await harness.stub.LoadPolicy(load(next_version(k), base_model="base", replace=True))
        seen = len(versions)
        await until(lambda seen=seen: len(versions) > seen + 4)
    swapping = False
    await asyncio.gather(*callers)

    assert len(set(versions)) == 6
    assert len(harness.engines["base-source"].adapters) == (kind == "adapter")


async def test_engine_that_does_not_start_is_rolled_back(harness: Harness) -> None:
    await harness.stub.LoadPolicy(load(harness.publish("one", "one")))
    before = await answer(harness)
    harness.prepare.append(lambda engine: setattr(engine, "fail_to_start", True))

    error = await refused(harness.stub.LoadPolicy(load(harness.publish("two", "two", config="1"), replace=True)))

    assert isinstance(error, FailedPreconditionError)
    assert error.reason == "CHECKPOINT_UNSUPPORTED"
    assert "/secret/place" not in error.message
    assert await answer(harness) == before
    assert [p.state for p in (await harness.stub.ListPolicies(pb.ListPoliciesRequest())).policies] == [
        pb.POLICY_STATE_SERVING
    ] * 2


async def test_failed_exchange_puts_the_old_weights_back(harness: Harness) -> None:
    await harness.stub.LoadPolicy(load(harness.publish("one", "one")))
    before = await answer(harness)
    harness.engine_of("one").fail_to_reload = True

    error = await refused(harness.stub.LoadPolicy(load(harness.publish("two", "two"), replace=True)))

    assert error.reason == "CHECKPOINT_UNSUPPORTED"
    assert harness.engine_of("one").reloads == [harness.store.local_path(key) for key in ("two", "one")]
    assert await answer(harness) == before


class UnsteadyEngine(CheckpointEngine):
    """Reads back something else every time."""

    readings = 0

    async def weights_checksum(self, adapter: str | None = None) -> str:
        self.readings += 1
        return str(self.readings)


async def test_weights_that_read_back_differently_are_rolled_back(tmp_path: Path) -> None:
    def make(source: str) -> CheckpointEngine:
        return UnsteadyEngine(source) if source.endswith("two") else CheckpointEngine(source)

    async with running_service(tmp_path, make_engine=make) as harness:
        await harness.stub.LoadPolicy(load(harness.publish("one", "one")))
        before = await answer(harness)

        error = await refused(harness.stub.LoadPolicy(load(harness.publish("two", "two", config="1"), replace=True)))

        assert error.reason == "CHECKPOINT_BROKEN"
        assert await answer(harness) == before
        assert not harness.engine_of("two").started


class StubbornEngine(CheckpointEngine):
    """Says that it reloaded, and keeps the weights that it has."""

    async def reload_weights(self, path: Path) -> None:
        self.reloads.append(path)


async def test_an_engine_that_keeps_its_old_weights_is_found_out(tmp_path: Path) -> None:
    async with running_service(tmp_path, make_engine=StubbornEngine) as harness:
        await harness.stub.LoadPolicy(load(harness.publish("one", "one")))
        before = await answer(harness)

        error = await refused(harness.stub.LoadPolicy(load(harness.publish("two", "two"), replace=True)))

        assert error.reason == "CHECKPOINT_UNSUPPORTED"
        assert await answer(harness) == before


async def test_a_version_that_cannot_answer_the_probe_is_rolled_back(harness: Harness) -> None:
    harness.prepare.append(lambda engine: setattr(engine, "dead", True))

    error = await refused(harness.stub.LoadPolicy(load(harness.publish("one", "one"))))

    assert error.reason == "ENGINE_DEAD"
    assert await names(harness) == ["base"]
    assert not harness.engine_of("one").started


async def test_a_load_goes_on_when_its_caller_gives_up(harness: Harness) -> None:
    uri = harness.publish("one", "one")
    harness.prepare.append(lambda engine: engine.gate.clear())
    call = harness.stub.LoadPolicy(load(uri))
    waiting = asyncio.ensure_future(refused(call))
    await until(lambda: len(harness.engines) == 2 and harness.engine_of("one").requests)
    assert (await policy(harness)).state == pb.POLICY_STATE_LOADING

    call.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    harness.engine_of("one").gate.set()

    assert (await harness.stub.LoadPolicy(load(uri))).state == pb.POLICY_STATE_SERVING
    assert len(harness.engines) == 2


async def test_unload_waits_for_running_calls_and_is_idempotent(harness: Harness) -> None:
    await harness.stub.LoadPolicy(load(harness.publish("one", "one")))
    engine = harness.engine_of("one")
    engine.gate.clear()
    running = asyncio.ensure_future(answer(harness))
    seen = len(engine.requests)
    await until(lambda: len(engine.requests) > seen)

    unloading = asyncio.ensure_future(unload(harness))
    while True:
        states = {p.name: p.state for p in (await harness.stub.ListPolicies(pb.ListPoliciesRequest())).policies}
        if states["run/it-1"] == pb.POLICY_STATE_DRAINING:
            break
    refusal = await refused(answer(harness))
    assert engine.started and not unloading.done()
    engine.gate.set()
    await unloading

    assert refusal.reason == "MODEL_NOT_FOUND"
    assert (await running)[0]
    assert not engine.started
    assert await names(harness) == ["base"]
    await unload(harness)


async def test_versions_that_are_needed_are_not_unloaded(harness: Harness) -> None:
    await harness.stub.LoadPolicy(load(harness.publish("one", "one")))
    await harness.stub.LoadPolicy(load(harness.publish_adapter("two", "two"), name="adapter", base_model="run/it-1"))

    for name in ("base", "run/it-1"):
        error = await refused(harness.stub.UnloadPolicy(pb.UnloadPolicyRequest(name=name)))
        assert error.reason == "POLICY_IN_USE"
    replaced = await refused(harness.stub.LoadPolicy(load(harness.publish("three", "three"), replace=True)))
    await unload(harness, "adapter")
    await promote(harness, "live", "run/it-1")
    aliased = await refused(harness.stub.UnloadPolicy(pb.UnloadPolicyRequest(name="run/it-1")))

    assert replaced.reason == aliased.reason == "POLICY_IN_USE"


async def test_alias_is_promoted_and_rolled_back(harness: Harness) -> None:
    await harness.stub.LoadPolicy(load(harness.publish("one", "one")))

    await promote(harness, "live", "base")
    promoted = await promote(harness, "live", "run/it-1")
    repeated = await promote(harness, "live", "run/it-1")
    by_alias = await answer(harness, "live")
    told = dict((await policy(harness, "run/it-1")).rollback_targets)
    request = pb.RollbackPolicyRequest(alias="live", request_id=str(uuid.uuid4()))
    rolled_back = [await harness.stub.RollbackPolicy(request) for _ in range(2)]

    assert (promoted.policy, promoted.previous_policy) == ("run/it-1", "base")
    assert repeated == promoted
    assert by_alias == await answer(harness, "run/it-1")
    assert told == {"live": "base"}
    assert [alias.policy for alias in rolled_back] == ["base", "base"]
    assert not (await policy(harness, "base")).rollback_targets, "a rollback works once"
    assert await answer(harness, "live") == await answer(harness, "base")
    assert list((await policy(harness, "base")).aliases) == ["live"]


async def test_alias_without_a_previous_version_cannot_be_rolled_back(harness: Harness) -> None:
    unknown = await refused(harness.stub.RollbackPolicy(pb.RollbackPolicyRequest(alias="live")))
    await promote(harness, "live", "base")
    first = await refused(harness.stub.RollbackPolicy(pb.RollbackPolicyRequest(alias="live")))

    assert (type(unknown), unknown.reason) == (NotFoundError, "ALIAS_NOT_FOUND")
    assert (type(first), first.reason) == (FailedPreconditionError, "NO_PREVIOUS_POLICY")


async def test_alias_wants_a_loaded_version_and_a_name_of_its_own(harness: Harness) -> None:
    missing = await refused(harness.stub.PromotePolicy(pb.PromotePolicyRequest(alias="live", name="run/it-9")))
    taken = await refused(harness.stub.PromotePolicy(pb.PromotePolicyRequest(alias="base", name="base")))
    wrong = await refused(harness.stub.PromotePolicy(pb.PromotePolicyRequest(request_id="x")))

    assert (missing.reason, taken.reason) == ("MODEL_NOT_FOUND", "POLICY_CONFLICT")
    assert fields(wrong) == {"request_id", "alias", "name"}


async def test_list_pages_through_all_versions(harness: Harness) -> None:
    for k in range(4):
        await harness.stub.LoadPolicy(load(harness.publish(f"c{k}", str(k)), name=f"run/it-{k}"))

    first = await harness.stub.ListPolicies(pb.ListPoliciesRequest(page_size=3))
    second = await harness.stub.ListPolicies(pb.ListPoliciesRequest(page_size=3, page_token=first.next_page_token))
    wrong = await refused(harness.stub.ListPolicies(pb.ListPoliciesRequest(page_size=-1)))

    assert [p.name for p in first.policies] + [p.name for p in second.policies] == [
        "base", "run/it-0", "run/it-1", "run/it-2", "run/it-3",
    ]  # fmt: skip
    assert not second.next_page_token
    assert fields(wrong) == {"page_size"}


async def test_least_recently_used_version_is_parked_and_comes_back_when_called(tmp_path: Path) -> None:
    async with running_service(tmp_path, max_engines=3) as harness:
        for k in range(2):
            await harness.stub.LoadPolicy(load(harness.publish(f"c{k}", str(k)), name=f"run/it-{k}"))
        first = await answer(harness, "run/it-0")
        await answer(harness, "run/it-1")

        await harness.stub.LoadPolicy(load(harness.publish("c2", "2"), name="run/it-2"))
        parked = await policy(harness, "run/it-0")
        again = await asyncio.gather(*(answer(harness, "run/it-0") for _ in range(5)))

        assert parked.state == pb.POLICY_STATE_PARKED
        assert again == [first] * 5
        assert (await policy(harness, "run/it-1")).state == pb.POLICY_STATE_PARKED
        assert sum(engine.started for engine in harness.engines.values()) == 3


async def test_no_engine_left_is_said_clearly(tmp_path: Path) -> None:
    async with running_service(tmp_path, max_engines=2) as harness:
        await harness.stub.LoadPolicy(load(harness.publish("one", "one")))
        await promote(harness, "live", "run/it-1")

        error = await refused(harness.stub.LoadPolicy(load(harness.publish("two", "two"), name="run/it-2")))

        assert isinstance(error, ResourceExhaustedError)
        assert (error.reason, error.retry_after) == ("ENGINE_LIMIT", 5.0)
        assert (await answer(harness, "live"))[0]


async def test_versions_and_aliases_are_restored_after_a_restart(tmp_path: Path) -> None:
    async with running_service(tmp_path) as harness:
        await harness.stub.LoadPolicy(load(harness.publish("one", "one")))
        await harness.stub.LoadPolicy(
            load(harness.publish_adapter("two", "two"), name="adapter", base_model="run/it-1")
        )
        await promote(harness, "live", "adapter")
        before = [await answer(harness, name) for name in ("run/it-1", "adapter", "live")]

    async with running_service(tmp_path) as harness:
        assert [await answer(harness, name) for name in ("run/it-1", "adapter", "live")] == before


async def test_a_version_that_cannot_be_restored_shows_its_reason_and_can_be_loaded_again(tmp_path: Path) -> None:
    async with running_service(tmp_path) as harness:
        uri = harness.publish("one", "one")
        await harness.stub.LoadPolicy(load(uri))
        await harness.stub.LoadPolicy(load(harness.publish("two", "two"), name="run/it-2"))
    harness.store.local_path("one/model.safetensors").write_text("damaged")

    async with running_service(tmp_path) as harness:
        failed = await policy(harness)
        error = await refused(answer(harness))
        promoted = await refused(harness.stub.PromotePolicy(pb.PromotePolicyRequest(alias="live", name="run/it-1")))
        harness.store.local_path("one/model.safetensors").write_text("one")
        loaded = await harness.stub.LoadPolicy(load(uri))
        assert (await answer(harness, "run/it-2"))[0]

    assert failed.state == pb.POLICY_STATE_FAILED
    assert "model.safetensors" in failed.failure
    assert error.reason == promoted.reason == "MODEL_NOT_FOUND"
    assert "could not be restored" in error.message
    assert loaded.state == pb.POLICY_STATE_SERVING


async def test_after_a_restart_more_versions_than_engines_are_all_still_there(tmp_path: Path) -> None:
    async with running_service(tmp_path) as harness:
        for k in range(4):
            await harness.stub.LoadPolicy(load(harness.publish(f"c{k}", str(k)), name=f"run/it-{k}"))
        await harness.stub.LoadPolicy(load(harness.publish_adapter("a", "a"), name="adapter", base_model="run/it-0"))
        served = await names(harness)
        before = {name: await answer(harness, name) for name in served}

    async with running_service(tmp_path, max_engines=3) as harness:
        states = {name: (await policy(harness, name)).state for name in served}
        after = {name: await answer(harness, name) for name in served}
    async with running_service(tmp_path, max_engines=3) as harness:
        assert await names(harness) == served

    assert after == before
    assert [name for name in served if states[name] == pb.POLICY_STATE_PARKED] == ["run/it-1", "run/it-2"]
