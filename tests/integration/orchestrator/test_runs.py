"""Whole runs over real gRPC, with stand-in peers."""

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import pyarrow.parquet as parquet
import pytest
from ilf.orchestrator.v1 import orchestrator_service_pb2 as pb

from ilf_common.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from ilf_common.rpc.status import from_rpc_error
from services.orchestrator import shards
from services.orchestrator.adapters import dbos_workflows
from services.orchestrator.wiring import Orchestrator
from tests.fakes.peers import digest, hash_of
from tests.integration.orchestrator.support import Scene, rows, scene, small_spec, write_rows


async def until(check: Any, seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not await check():
            await asyncio.sleep(0.02)


async def samples_of(here: Scene, run: pb.Run, iteration: int = 1) -> list[pb.RunSample]:
    found: list[pb.RunSample] = []
    token = ""
    while True:
        request = pb.ListSamplesRequest(parent=run.name, iteration=iteration, page_size=7, page_token=token)
        page = await here.stub.ListSamples(request)
        found.extend(page.samples)
        token = page.next_page_token
        if not token:
            return found


def training_rows(here: Scene, run: str, iteration: int) -> list[dict[str, Any]]:
    path = here.store.local_path(f"runs/{run}/it-{iteration}/finetune-data/part-00000.parquet")
    rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return rows


async def test_one_iteration_goes_from_the_dataset_to_a_served_policy(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        run = await here.end(await here.create(small_spec(here), run_id="first"))
        assert run.state == pb.RUN_STATE_SUCCEEDED, run.error
        assert run.policy == "first/it-1"
        assert "first/it-1" in here.peers.policies
        stages = [stage.stage for stage in run.iterations[1].stages]
        assert stages == ["generate", "feedback", "refine", "rank", "select", "finetune", "evaluate"]
        assert all(stage.state == pb.STAGE_STATE_SUCCEEDED for stage in run.iterations[1].stages)
        assert {"exact_match", "nll", "mean_length"} <= set(run.iterations[0].metrics)
        assert {"exact_match", "win_rate", "chosen_exact", "random_exact"} <= set(run.iterations[1].metrics)
        assert run.iterations[0].metrics["exact_match"].n == 10
        found = await samples_of(here, run)
        assert [sample.item_id for sample in found] == [f"train-{n}" for n in range(40)]
        for sample in found:
            scores = [candidate.score.score for candidate in sample.candidates]
            assert sample.chosen_index == scores.index(max(scores))
            assert [candidate.weight for candidate in sample.candidates] == [
                float(index == sample.chosen_index) for index in range(3)
            ]
        assert {row["completion"] for row in training_rows(here, "first", 1)} == {
            sample.candidates[sample.chosen_index].text for sample in found
        }


@pytest.mark.parametrize(("schedule", "bases"), [("SCHEDULE_UNION", 1), ("SCHEDULE_CONTINUE", 3)])
async def test_schedules_differ_in_what_they_train_on_and_from(tmp_path: Path, schedule: str, bases: int) -> None:
    async with scene(tmp_path) as here:
        spec = small_spec(here, train=30, iterations=3, schedule=schedule)
        run = await here.end(await here.create(spec, run_id="many"))
        assert run.state == pb.RUN_STATE_SUCCEEDED, run.error
        seen = [{row["item_id"] for row in training_rows(here, "many", number)} for number in (1, 2, 3)]
        if schedule == "SCHEDULE_UNION":
            assert [len(ids) for ids in seen] == [10, 20, 30]
        else:
            assert [len(ids) for ids in seen] == [10, 10, 10]
            assert len(set.union(*seen)) == 30
        assert len({job.spec.base_model for job in here.peers.jobs.values()}) == bases
        outputs = {sample.item_id: sample.initial_output for sample in await samples_of(here, run, 2)}
        newest = here.peers.policies["many/it-1"].digest[:6]
        assert all(f" by {newest} " in text for text in outputs.values())


async def test_no_stage_but_evaluation_sees_a_test_context(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        run = await here.end(await here.create(small_spec(here, iterations=2)))
        assert run.state == pb.RUN_STATE_SUCCEEDED
        for call in ("BatchRefine", "BatchRank", "GiveFeedback"):
            assert not any(context.startswith("test ") for context in here.peers.contexts[call])


async def test_bad_rows_fail_alone_and_keep_their_stage_and_reason(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        data = rows("train", 40)
        for index, call in ((3, "generate"), (11, "refine"), (25, "rank")):
            data[index]["context"] += f" POISON-{call}"
        data[30]["context"] = ""
        spec = small_spec(here)
        spec["dataset"]["train_uri"] = write_rows(here.folder, "poisoned.jsonl", data)
        run = await here.end(await here.create(spec))
        assert run.state == pb.RUN_STATE_SUCCEEDED, run.error
        failed = {sample.item_id: sample.failed_stage for sample in await samples_of(here, run) if sample.failed_stage}
        assert failed == {"train-3": "generate", "train-11": "refine", "train-25": "rank", "train-30#row-31": "input"}
        bad = {stage.stage: stage.bad_rows for stage in run.iterations[1].stages}
        assert bad["generate"] == bad["refine"] == bad["rank"] == 1
        assert len({row["item_id"] for row in training_rows(here, run.name[5:], 1)}) == 36


async def test_too_many_bad_rows_fail_the_run_and_say_where(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        data = rows("train", 40)
        for row in data[::2]:
            row["context"] += " POISON-refine"
        spec = small_spec(here)
        spec["dataset"]["train_uri"] = write_rows(here.folder, "poisoned.jsonl", data)
        run = await here.end(await here.create(spec))
        assert run.state == pb.RUN_STATE_FAILED
        assert "stage refine" in run.error.message and "max_bad_row_share" in run.error.message


async def test_a_run_waits_for_a_service_that_is_down_and_then_goes_on(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        here.peers.down.add("ranking")
        run = await here.create(small_spec(here), run_id="patient")

        async def waits() -> bool:
            state = await here.stub.GetRun(pb.GetRunRequest(name=run.name))
            return bool(state.state == pb.RUN_STATE_WAITING)

        await until(waits)
        state = await here.stub.GetRun(pb.GetRunRequest(name=run.name))
        assert state.waiting.reason == "RANKING_UNAVAILABLE"
        assert state.waiting.HasField("since")
        here.peers.down.clear()
        run = await here.end(run)
        assert run.state == pb.RUN_STATE_SUCCEEDED
        assert not run.HasField("waiting")


async def test_cancel_stops_the_run_and_its_job_and_resume_reuses_the_shards(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        here.peers.hold_jobs = True
        run = await here.create(small_spec(here), run_id="stopped")

        async def trains() -> bool:
            return bool(here.peers.calls["WatchFinetuneJob"])

        await until(trains)
        run = await here.stub.CancelRun(pb.CancelRunRequest(name=run.name))
        assert run.state == pb.RUN_STATE_CANCELLED
        assert [job.state for job in here.peers.jobs.values()] == [5]
        assert (await here.stub.CancelRun(pb.CancelRunRequest(name=run.name))).state == pb.RUN_STATE_CANCELLED
        here.peers.hold_jobs = False
        refined = here.peers.calls["BatchRefine"]
        resume = pb.ResumeRunRequest(name=run.name, request_id="again")
        run = await here.end(await here.stub.ResumeRun(resume))
        assert run.state == pb.RUN_STATE_SUCCEEDED, run.error
        assert here.peers.calls["BatchRefine"] == refined
        page = await here.stub.ExplainRun(pb.ExplainRunRequest(name=run.name, page_size=1000))
        outcomes = {(shard.iteration, shard.stage): shard.outcome for shard in page.shards}
        assert outcomes[1, "refine"] == "reused"
        assert outcomes[1, "evaluate"] == "computed"
        refine = next(shard for shard in page.shards if shard.stage == "refine")
        assert refine.key_parts["model"] == digest("refiner")


async def test_resume_refuses_when_a_frozen_model_has_changed(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        here.peers.fail_jobs = True
        run = await here.end(await here.create(small_spec(here)))
        assert run.state == pb.RUN_STATE_FAILED
        assert "the loss is not a number" in run.error.message
        here.peers.policies["refiner"].digest = digest("another refiner")
        with pytest.raises(grpc.RpcError) as caught:
            await here.stub.ResumeRun(pb.ResumeRunRequest(name=run.name))
        error = from_rpc_error(caught.value)
        assert isinstance(error, FailedPreconditionError) and error.reason == "RUN_NOT_RESUMABLE"
        assert "refiner" in error.message
        here.peers.policies["refiner"].digest = digest("refiner")
        here.peers.fail_jobs = False
        run = await here.end(await here.stub.ResumeRun(pb.ResumeRunRequest(name=run.name)))
        assert run.state == pb.RUN_STATE_SUCCEEDED
        assert len(here.peers.jobs) == 2


async def test_a_succeeded_run_cannot_be_resumed(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        run = await here.end(await here.create(small_spec(here)))
        with pytest.raises(grpc.RpcError) as caught:
            await here.stub.ResumeRun(pb.ResumeRunRequest(name=run.name))
        assert from_rpc_error(caught.value).reason == "RUN_NOT_RESUMABLE"


async def test_a_preview_stops_after_ranking_the_first_rows(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        run = await here.end(await here.create(small_spec(here, preview_rows=5)))
        assert run.state == pb.RUN_STATE_SUCCEEDED, run.error
        assert not here.peers.jobs
        found = await samples_of(here, run)
        assert len(found) == 5
        assert all(candidate.HasField("score") for sample in found for candidate in sample.candidates)


async def test_create_is_idempotent_by_request_id(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        spec = small_spec(here)
        first = await here.create(spec, request_id="one")
        again = await here.create(spec, request_id="one")
        assert first.name == again.name
        with pytest.raises(grpc.RpcError) as caught:
            await here.create({**spec, "seed": 8}, request_id="one")
        assert from_rpc_error(caught.value).reason == "REQUEST_ID_CONFLICT"
        with pytest.raises(grpc.RpcError) as caught:
            await here.create(spec, request_id="two", run_id=first.name[5:])
        assert from_rpc_error(caught.value).reason == "RUN_EXISTS"
        await here.end(first)


async def test_validate_only_answers_the_resolved_spec_and_starts_nothing(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        run = await here.create(small_spec(here), validate_only=True)
        assert run.spec.refine.sampling.top_p == 0.95
        assert run.spec.rank.ranker.name == "instruct_rm"
        assert not (await here.stub.ListRuns(pb.ListRunsRequest())).runs


async def test_shared_contexts_of_splits_are_refused_by_row(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        spec = small_spec(here)
        data = rows("test", 10)
        data[4]["context"] = "train context 7"
        spec["dataset"]["test_uri"] = write_rows(here.folder, "leaking.jsonl", data)
        with pytest.raises(grpc.RpcError) as caught:
            await here.create(spec)
        error = from_rpc_error(caught.value)
        assert isinstance(error, InvalidArgumentError) and error.reason == "DATASET_INVALID"
        assert "context of test row 5 is that of train row 8" in error.message


async def test_an_unknown_model_or_dataset_is_not_found(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        for change in ({"policy": "nobody"}, {"dataset": {"train_uri": "data/no.jsonl", "test_uri": "data/no.jsonl"}}):
            with pytest.raises(grpc.RpcError) as caught:
                await here.create(small_spec(here, **change))
            assert isinstance(from_rpc_error(caught.value), NotFoundError)


async def test_column_outputs_and_column_feedback_go_together(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        data = rows("train", 12, initial_output="long words", feedback="shorten")
        spec = small_spec(
            here,
            generate={"source": "SOURCE_COLUMN", "template": {"text": "{context}"}},
            feedback={"source": "SOURCE_COLUMN"},
        )
        spec["dataset"]["train_uri"] = write_rows(here.folder, "columns.jsonl", data)
        run = await here.end(await here.create(spec))
        assert run.state == pb.RUN_STATE_SUCCEEDED, run.error
        assert {sample.feedback for sample in await samples_of(here, run)} == {"shorten"}
        spec["generate"]["source"] = "SOURCE_POLICY"
        with pytest.raises(grpc.RpcError) as caught:
            await here.create(spec)
        assert from_rpc_error(caught.value).reason == "FEEDBACK_NOT_FOR_OUTPUT"


async def test_a_critic_model_gives_feedback(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        critic = {
            "source": "SOURCE_CRITIC",
            "critic": "critic",
            "template": {"text": "{initial_output} What is wrong?"},
        }
        run = await here.end(await here.create(small_spec(here, feedback=critic)))
        assert run.state == pb.RUN_STATE_SUCCEEDED, run.error
        assert all(digest("critic")[:6] in sample.feedback for sample in await samples_of(here, run))


@pytest.mark.parametrize("keep", [True, False])
async def test_nothing_to_change_keeps_the_output_or_skips_the_item(tmp_path: Path, keep: bool) -> None:
    async with scene(tmp_path) as here:
        data = rows("train", 12)
        data[5]["context"] += " FINE"
        spec = small_spec(here)
        spec["dataset"]["train_uri"] = write_rows(here.folder, "fine.jsonl", data)
        spec["feedback"]["nothing_to_change"] = ["nothing to change"]
        spec["feedback"]["on_nothing_to_change"] = f"NOTHING_TO_CHANGE_{'KEEP' if keep else 'SKIP'}"
        run = await here.end(await here.create(spec, run_id="fine"))
        assert run.state == pb.RUN_STATE_SUCCEEDED, run.error
        trained = {row["item_id"]: row for row in training_rows(here, "fine", 1)}
        sample = (await samples_of(here, run))[5]
        if keep:
            assert trained["train-5"]["completion"] == sample.initial_output
            assert trained["train-5"]["weight"] == 1.0
        else:
            assert "train-5" not in trained
            assert not sample.candidates
        assert not any("FINE" in context for context in here.peers.contexts["BatchRefine"])


@pytest.mark.parametrize("select", [{"method": "METHOD_SOFTMAX", "beta": 3.0}, {"method": "METHOD_TOP_K", "k": 2}])
async def test_weights_of_an_item_sum_to_one_in_the_training_data(tmp_path: Path, select: dict[str, Any]) -> None:
    async with scene(tmp_path) as here:
        run = await here.end(await here.create(small_spec(here, select=select), run_id="soft"))
        assert run.state == pb.RUN_STATE_SUCCEEDED, run.error
        sums: dict[str, float] = {}
        for row in training_rows(here, "soft", 1):
            sums[row["item_id"]] = sums.get(row["item_id"], 0.0) + row["weight"]
        assert len(sums) == 40
        assert all(abs(total - 1) < 1e-9 for total in sums.values())


@pytest.mark.parametrize(("target", "column"), [("TARGET_INITIAL_OUTPUT", "initial_output"), ("TARGET_REFERENCE", "")])
async def test_controls_train_on_outputs_or_references(tmp_path: Path, target: str, column: str) -> None:
    async with scene(tmp_path) as here:
        run = await here.end(await here.create(small_spec(here, finetune={"target": target}), run_id="control"))
        assert run.state == pb.RUN_STATE_SUCCEEDED, run.error
        completions = {row["completion"] for row in training_rows(here, "control", 1)}
        if column:
            assert completions == {sample.initial_output for sample in await samples_of(here, run)}
        else:
            assert completions == {f"train reference {n}" for n in range(40)}


async def test_equal_runs_make_equal_bytes(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        for run_id in ("left", "right"):
            run = await here.end(await here.create(small_spec(here, iterations=2), run_id=run_id))
            assert run.state == pb.RUN_STATE_SUCCEEDED
        left = here.store.local_path("runs/left")
        parts = sorted(path.relative_to(left) for path in left.rglob("part-*.parquet"))
        assert len(parts) > 20
        for part in parts:
            assert (left / part).read_bytes() == here.store.local_path(f"runs/right/{part}").read_bytes()


async def test_manifests_name_every_part(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        run = await here.end(await here.create(small_spec(here), run_id="whole"))
        for stage in ("input", "generate", "feedback", "refine", "rank", "select"):
            folder = here.store.fetch_directory(f"runs/whole/it-1/{stage}")
            names = [entry["path"] for entry in json.loads((folder / "_MANIFEST.json").read_text())["files"]]
            assert names == [f"part-{index:05d}.parquet" for index in range(5)]
        assert run.state == pb.RUN_STATE_SUCCEEDED


async def test_a_second_orchestrator_with_the_same_executor_is_refused(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        with pytest.raises(FailedPreconditionError) as caught:
            await Orchestrator(here.settings).start()
        assert caught.value.reason == "EXECUTOR_TAKEN"


async def test_an_upgrade_that_cannot_continue_a_run_says_so_and_resume_reuses_its_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene(tmp_path) as here:
        here.peers.hold_jobs = True
        run = await here.create(small_spec(here))

        async def trains() -> bool:
            return bool(here.peers.calls["WatchFinetuneJob"])

        await until(trains)
        monkeypatch.setattr(dbos_workflows, "APPLICATION_VERSION", "2")
        async with here.restarted():
            run = await here.stub.GetRun(pb.GetRunRequest(name=run.name))
            assert run.state == pb.RUN_STATE_FAILED
            assert "another version" in run.error.message and "Resume" in run.error.message
            here.peers.hold_jobs = False
            refined = here.peers.calls["BatchRefine"]
            run = await here.end(await here.stub.ResumeRun(pb.ResumeRunRequest(name=run.name)))
            assert run.state == pb.RUN_STATE_SUCCEEDED, run.error
            assert here.peers.calls["BatchRefine"] == refined
            assert len(here.peers.jobs) == 1


async def test_a_raised_stage_version_makes_its_shards_again_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene(tmp_path) as here:
        here.peers.fail_jobs = True
        run = await here.end(await here.create(small_spec(here)))
        here.peers.fail_jobs = False
        monkeypatch.setattr(shards, "STAGE_VERSIONS", {**shards.STAGE_VERSIONS, "rank": 2})
        run = await here.end(await here.stub.ResumeRun(pb.ResumeRunRequest(name=run.name)))
        assert run.state == pb.RUN_STATE_SUCCEEDED, run.error
        page = await here.stub.ExplainRun(pb.ExplainRunRequest(name=run.name, page_size=1000))
        found = {(shard.stage, shard.outcome, shard.reason) for shard in page.shards if shard.iteration == 1}
        assert ("refine", "reused", "") in found
        assert ("rank", "computed", "stage_version was 1, is 2") in found


def by_reward(*models: str) -> dict[str, Any]:
    return {"rank": {"ranker": {"name": "reward_model"}, "reward_models": list(models)}}


@pytest.mark.parametrize("models", [("one",), ("one", "two"), ("compares",)])
async def test_a_reward_model_ranks_and_its_best_is_trained_on(tmp_path: Path, models: tuple[str, ...]) -> None:
    async with scene(tmp_path) as here:
        run = await here.end(await here.create(small_spec(here, **by_reward(*models))))
        assert run.state == pb.RUN_STATE_SUCCEEDED, run.error
        samples = await samples_of(here, run)
        assert len(samples) == 40
        for sample in samples:
            rewards = [hash_of(candidate.text) % 1000 for candidate in sample.candidates]
            assert sample.chosen_index == rewards.index(max(rewards))
            assert [judge.judge for judge in sample.candidates[0].score.judge_scores] == list(models)


async def test_a_reward_model_that_is_away_is_waited_for_and_one_that_changes_fails_the_run(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        here.peers.down.add("reward")
        run = await here.create(small_spec(here, **by_reward("one"), evaluate={"disabled": True}))

        async def waits(reason: str) -> bool:
            return bool((await here.stub.GetRun(pb.GetRunRequest(name=run.name))).waiting.reason == reason)

        await until(lambda: waits("REWARD_UNAVAILABLE"))
        here.peers.down = {"plugin"}
        await until(lambda: waits("PLUGIN_UNAVAILABLE"))
        here.peers.reward_digest = "another"
        here.peers.down.clear()
        ended = await here.end(run)
        assert ended.state == pb.RUN_STATE_FAILED and ended.error.message.startswith("The ranker 'reward_model' has")
        here.peers.reward_digest = ""
        resumed = await here.end(await here.stub.ResumeRun(pb.ResumeRunRequest(name=run.name)))
        assert resumed.state == pb.RUN_STATE_SUCCEEDED, resumed.error


@pytest.mark.parametrize("spec", [by_reward("gone"), {"evaluate": {"best_of_n": {"n": 2, "reward_models": ["gone"]}}}])
async def test_a_reward_model_that_is_not_there_is_refused_at_the_door(tmp_path: Path, spec: dict[str, Any]) -> None:
    async with scene(tmp_path) as here:
        with pytest.raises(grpc.RpcError) as caught:
            await here.create(small_spec(here, **spec))
        assert from_rpc_error(caught.value).reason == "REWARD_MODEL_NOT_FOUND"


async def test_a_row_that_the_reward_model_refuses_is_passed_by(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        data = rows("train", 40)
        data[3]["context"] += " POISON-rank"
        spec = small_spec(here, **by_reward("one"))
        spec["dataset"]["train_uri"] = write_rows(here.folder, "poisoned.jsonl", data)
        run = await here.end(await here.create(spec))
        assert run.state == pb.RUN_STATE_SUCCEEDED, run.error
        (rank,) = [stage for stage in run.iterations[1].stages if stage.stage == "rank"]
        assert rank.bad_rows == 1


async def test_a_ranker_that_changes_in_the_middle_of_a_run_fails_it(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        here.peers.down.add("plugin")
        run = await here.create(small_spec(here, evaluate={"disabled": True}))

        async def waits() -> bool:
            state = await here.stub.GetRun(pb.GetRunRequest(name=run.name))
            return bool(state.waiting.reason == "PLUGIN_UNAVAILABLE")

        await until(waits)
        here.peers.ranker_description = "another one"
        here.peers.down.clear()
        ended = await here.end(run)
        assert ended.state == pb.RUN_STATE_FAILED
        assert "The ranker 'instruct_rm' has changed" in ended.error.message
