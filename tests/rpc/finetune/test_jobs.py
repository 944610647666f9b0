"""The finetune RPCs over a real server: codes, details, pages, streams."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from ilf.common.v1 import common_pb2
from ilf.finetune.v1 import finetune_service_pb2 as pb
from ilf.finetune.v1 import finetune_service_pb2_grpc as pb_grpc

from ilf_common.artifacts import ArtifactStore
from ilf_common.errors import (
    AlreadyExistsError,
    IlfError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from ilf_common.rpc.client import call
from ilf_common.rpc.status import from_rpc_error, from_status
from services.finetune.adapters.artifact_sources import ArtifactSources
from services.finetune.adapters.job_files import JobFiles
from services.finetune.models import job_id_of
from services.finetune.ports import Limits
from services.finetune.service import FinetuneService
from services.finetune.wiring import Finetune
from tests.fakes.job_runner import FakeJobRunner
from tests.support import running_channel


@dataclass
class Running:
    stub: pb_grpc.FinetuneServiceStub
    runner: FakeJobRunner
    service: FinetuneService


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Running]:
    store = ArtifactStore(str(folder / "store"))
    store.write_bytes("data/rows.jsonl", b"{}")
    (folder / "base").mkdir(exist_ok=True)
    runner = FakeJobRunner(now=time.time())
    files = JobFiles(folder / "jobs")
    sources = ArtifactSources(store, {"base": str(folder / "base")}, [], allow_hub=False)
    service = FinetuneService(files, runner, sources, time.time, Limits(poll_seconds=0.01))
    finetune = Finetune(service, files)
    async with running_channel(finetune.register, component="finetune") as channel:
        await service.start()
        try:
            yield Running(pb_grpc.FinetuneServiceStub(channel), runner, service)
        finally:
            await finetune.stop()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path) as server:
        yield server


def request(request_id: str = "", **changes: object) -> pb.CreateFinetuneJobRequest:
    spec = pb.FinetuneSpec(
        kind=pb.FINETUNE_KIND_SFT,
        base_model="base",
        dataset_uri="data/rows.jsonl",
        output_uri=f"runs/{request_id or uuid.uuid4()}/checkpoint",
        template=common_pb2.PromptTemplate(name="policy", text="say {context}", target_prefix=" "),
    )
    spec.MergeFrom(pb.FinetuneSpec(**changes))  # type: ignore[arg-type]
    return pb.CreateFinetuneJobRequest(request_id=request_id or str(uuid.uuid4()), spec=spec)


async def refusal(method: object, message: object) -> IlfError:
    with pytest.raises(IlfError) as raised:
        await call(method, message, timeout=5, retry=None)  # type: ignore[arg-type]
    return raised.value


async def test_a_job_says_everything_about_itself(server: Running) -> None:
    sent = request(
        "r1",
        hyperparameters=pb.Hyperparameters(
            learning_rate=1e-4, max_grad_norm=0.0, seed=2**63, lora=pb.LoraSpec(rank=4, target_modules=["q_proj"])
        ),
        merge_adapter=True,
    )
    created = await server.stub.CreateFinetuneJob(sent)
    assert created.name == f"jobs/{job_id_of('r1')}"
    assert created.spec == sent.spec
    assert created.spec.hyperparameters.HasField("max_grad_norm")
    assert created.request_id == "r1"
    seen = []
    async for response in server.stub.WatchFinetuneJob(pb.WatchFinetuneJobRequest(name=created.name)):
        job = response.finetune_job
        seen.append(job.state)
        if job.state == pb.FINETUNE_JOB_STATE_RUNNING and job.progress.step == 0:
            server.runner.step(job_id_of("r1"), 5, of=10)
        elif job.state == pb.FINETUNE_JOB_STATE_RUNNING:
            assert (job.progress.max_steps, job.progress.loss) == (10, pytest.approx(0.2))
            assert job.progress.HasField("last_step_time")
            assert [(point.step, point.loss) for point in job.progress.losses] == [(5, pytest.approx(0.2))]
            [listed] = (await server.stub.ListFinetuneJobs(pb.ListFinetuneJobsRequest())).finetune_jobs
            assert listed.progress.step == 5 and not listed.progress.losses, "a page of curves would be too large"
            server.runner.finish(job_id_of("r1"), digest="abc")
    assert seen[-1] == pb.FINETUNE_JOB_STATE_SUCCEEDED
    done = await server.stub.GetFinetuneJob(pb.GetFinetuneJobRequest(name=created.name))
    assert done.checkpoint_digest == "abc"
    assert done.create_time.ToMilliseconds() <= done.start_time.ToMilliseconds() <= done.end_time.ToMilliseconds()
    assert [condition.type for condition in done.conditions] == ["Scheduled", "Running", "Ended"]


async def test_a_repeat_answers_the_first_job_and_a_changed_one_is_refused(server: Running) -> None:
    first = await server.stub.CreateFinetuneJob(request("r1"))
    assert (await server.stub.CreateFinetuneJob(request("r1"))).name == first.name
    error = await refusal(server.stub.CreateFinetuneJob, request("r1", merge_adapter=True))
    assert isinstance(error, AlreadyExistsError)
    assert error.reason == "REQUEST_ID_CONFLICT"
    assert error.metadata["job"] == first.name


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"kind": 7}, "spec.kind"),
        ({"dataset_uri": "data/rows.csv\n"}, "spec.dataset_uri"),
        ({"base_model": "/etc"}, "spec.base_model"),
        ({"output_uri": "../outside"}, "spec.output_uri"),
        ({"template": common_pb2.PromptTemplate(text="{nonsense}")}, "template.text"),
        ({"template": common_pb2.PromptTemplate(text="{context} {feedback}")}, "spec.template.text"),
        ({"hyperparameters": pb.Hyperparameters(learning_rate=float("nan"))}, "spec.hyperparameters.learning_rate"),
        ({"hyperparameters": pb.Hyperparameters(batch_size=-1)}, "spec.hyperparameters.batch_size"),
        ({"hyperparameters": pb.Hyperparameters(lora=pb.LoraSpec(rank=0))}, "spec.hyperparameters.lora.rank"),
        ({"hyperparameters": pb.Hyperparameters(dtype="int4")}, "spec.hyperparameters.dtype"),
        ({"placement": "huge"}, "spec.placement"),
    ],
)
async def test_wrong_fields_are_named(server: Running, changes: dict[str, object], field: str) -> None:
    error = await refusal(server.stub.CreateFinetuneJob, request(**changes))
    assert isinstance(error, InvalidArgumentError)
    assert field in [violation.field for violation in error.violations]
    assert server.service.list() == []


def reward_request(reward: pb.RewardOptions, template: common_pb2.PromptTemplate) -> pb.CreateFinetuneJobRequest:
    sent = request()
    sent.spec.kind = pb.FINETUNE_KIND_REWARD_MODEL
    sent.spec.template.CopyFrom(template)
    sent.spec.reward.CopyFrom(reward)
    return sent


QUESTION = common_pb2.PromptTemplate(
    text="{context} {candidate}?", positive_answers=["Yes"], negative_answers=["No"], name="own"
)


async def test_a_reward_model_s_job_says_how_it_is_trained_and_measured(server: Running) -> None:
    options = pb.RewardOptions(loss=common_pb2.REWARD_LOSS_YES_NO, held_out_share=0.25, slice_column="topic")
    sent = reward_request(options, QUESTION)
    answered = (await server.stub.CreateFinetuneJob(sent)).spec
    assert (answered.reward, answered.template) == (sent.spec.reward, sent.spec.template)


@pytest.mark.parametrize(
    ("options", "template", "field"),
    [
        ({"loss": 9}, QUESTION, "spec.reward.loss"),
        ({"loss": common_pb2.REWARD_LOSS_A_B}, QUESTION, "spec.template.text"),
        ({}, QUESTION, "spec.template"),
        ({"held_out_share": 0.6}, None, "spec.reward.held_out_share"),
        ({"held_out_share": float("nan")}, None, "spec.reward.held_out_share"),
        ({"held_out_share": 0.1, "held_out_uri": "data/rows.jsonl"}, None, "spec.reward.held_out_share"),
        ({"slice_column": "x" * 2000}, None, "spec.reward.slice_column"),
        ({"held_out_uri": "data/rows.csv\n"}, None, "spec.reward.held_out_uri"),
    ],
)
async def test_wrong_reward_options_are_named(
    server: Running, options: dict[str, object], template: common_pb2.PromptTemplate | None, field: str
) -> None:
    message = reward_request(pb.RewardOptions(**options), template or common_pb2.PromptTemplate())  # type: ignore[arg-type]
    error = await refusal(server.stub.CreateFinetuneJob, message)
    assert isinstance(error, InvalidArgumentError)
    assert field in [violation.field for violation in error.violations]


async def test_a_missing_held_out_part_and_reward_options_of_a_policy_are_refused(server: Running) -> None:
    missing = reward_request(pb.RewardOptions(held_out_uri="data/none.jsonl"), common_pb2.PromptTemplate())
    error = await refusal(server.stub.CreateFinetuneJob, missing)
    assert error.reason == "DATASET_NOT_FOUND" and "spec.reward.held_out_uri" in error.message
    error = await refusal(server.stub.CreateFinetuneJob, request(reward=pb.RewardOptions()))
    assert isinstance(error, InvalidArgumentError) and error.violations[0].field == "spec.reward"


async def test_what_does_not_exist_is_not_found(server: Running) -> None:
    for message, reason in (
        (request(dataset_uri="data/none.jsonl"), "DATASET_NOT_FOUND"),
        (request(base_model="runs/none/checkpoint"), "CHECKPOINT_NOT_FOUND"),
    ):
        error = await refusal(server.stub.CreateFinetuneJob, message)
        assert isinstance(error, NotFoundError)
        assert error.reason == reason
    error = await refusal(server.stub.GetFinetuneJob, pb.GetFinetuneJobRequest(name="jobs/none"))
    assert (error.reason, error.metadata["resource"]) == ("JOB_NOT_FOUND", "jobs/none")
    error = await refusal(server.stub.CancelFinetuneJob, pb.CancelFinetuneJobRequest(name="jobs/none"))
    assert error.reason == "JOB_NOT_FOUND"


async def test_a_uri_outside_the_store_has_a_reason_of_its_own(server: Running) -> None:
    error = await refusal(server.stub.CreateFinetuneJob, request(dataset_uri="s3://elsewhere/rows.jsonl"))
    assert isinstance(error, InvalidArgumentError)
    assert error.reason == "URI_OUTSIDE_STORE"


async def test_a_failed_job_carries_its_error(server: Running) -> None:
    created = await server.stub.CreateFinetuneJob(request("r1"))
    async for response in server.stub.WatchFinetuneJob(pb.WatchFinetuneJobRequest(name=created.name)):
        if response.finetune_job.state == pb.FINETUNE_JOB_STATE_RUNNING:
            server.runner.fail(job_id_of("r1"), "BAD_DATA", "row 3 (item x): 900 tokens, more than 512")
    error = from_status(response.finetune_job.error)
    assert isinstance(error, InvalidArgumentError)
    assert error.reason == "BAD_DATA"
    assert "item x" in error.message


async def test_cancel_answers_cancelled_and_stays_so(server: Running) -> None:
    created = await server.stub.CreateFinetuneJob(request("r1"))
    for _ in range(2):
        job = await server.stub.CancelFinetuneJob(pb.CancelFinetuneJobRequest(name=created.name))
        assert job.state == pb.FINETUNE_JOB_STATE_CANCELLED
    assert not job.HasField("error")


async def test_jobs_are_listed_in_pages_oldest_first(server: Running) -> None:
    names = []
    for number in range(5):
        names.append((await server.stub.CreateFinetuneJob(request(f"r{number}"))).name)
    listed: list[str] = []
    token = ""
    while True:
        page = await server.stub.ListFinetuneJobs(pb.ListFinetuneJobsRequest(page_size=2, page_token=token))
        listed += [job.name for job in page.finetune_jobs]
        token = page.next_page_token
        if not token:
            break
    assert listed == names
    error = await refusal(server.stub.ListFinetuneJobs, pb.ListFinetuneJobsRequest(page_token="?"))
    assert isinstance(error, InvalidArgumentError)


async def test_watchers_are_told_that_the_server_goes_away(server: Running) -> None:
    created = await server.stub.CreateFinetuneJob(request("r1"))
    watch = server.stub.WatchFinetuneJob(pb.WatchFinetuneJobRequest(name=created.name))
    async for response in watch:
        if response.finetune_job.state == pb.FINETUNE_JOB_STATE_RUNNING:
            break
    server.service.end_watches()
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        async with asyncio.timeout(5):
            async for _ in watch:
                pass
    assert isinstance(from_rpc_error(raised.value), UnavailableError)


async def test_jobs_survive_the_server(tmp_path: Path) -> None:
    async with running(tmp_path) as first:
        created = await first.stub.CreateFinetuneJob(request("r1"))
    async with running(tmp_path) as second:
        again = await second.stub.GetFinetuneJob(pb.GetFinetuneJobRequest(name=created.name))
        assert again.spec == created.spec
        assert (await second.stub.CreateFinetuneJob(request("r1"))).name == created.name
