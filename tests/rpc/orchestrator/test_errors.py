"""Codes and details of the orchestrator's refusals, over a real server with the real interceptor."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.rpc import error_details_pb2, status_pb2
from ilf.orchestrator.v1 import orchestrator_service_pb2 as pb

from tests.integration.orchestrator.support import Scene, rows, scene, small_spec, write_rows


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene(tmp_path) as opened:
        yield opened


async def refusal(call: Any) -> tuple[grpc.StatusCode, str, set[str]]:
    """Code, reason and the named fields."""
    with pytest.raises(grpc.RpcError) as caught:
        await call
    error: Any = caught.value
    packed = dict(error.trailing_metadata())["grpc-status-details-bin"]
    reason, fields = "", set()
    for detail in status_pb2.Status.FromString(packed).details:
        info, wrong = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info):
            reason = info.reason
            assert info.domain == "orchestrator.ilf"
        elif detail.Unpack(wrong):
            fields = {violation.field for violation in wrong.field_violations}
    return error.code(), reason, fields


INVALID = grpc.StatusCode.INVALID_ARGUMENT


async def test_an_empty_spec_names_every_missing_field(here: Scene) -> None:
    code, reason, fields = await refusal(here.stub.CreateRun(pb.CreateRunRequest()))
    assert (code, reason) == (INVALID, "INVALID_FIELD")
    assert {"spec.policy", "spec.refine.refiner", "spec.dataset.train_uri", "spec.feedback.source"} <= fields


async def test_a_run_id_of_another_form_is_refused(here: Scene) -> None:
    code, _, fields = await refusal(here.create(small_spec(here), run_id="No Good"))
    assert (code, fields) == (INVALID, {"run_id"})


async def test_an_enum_value_of_a_newer_client_is_refused(here: Scene) -> None:
    spec = json_format.ParseDict(small_spec(here), pb.RunSpec())
    spec.schedule = 17  # type: ignore[assignment]
    code, _, fields = await refusal(here.stub.CreateRun(pb.CreateRunRequest(spec=spec)))
    assert (code, fields) == (INVALID, {"spec"})


async def test_datasets_are_looked_at_before_anything_starts(here: Scene) -> None:
    for name, content, reason in (
        ("empty.jsonl", "", "DATASET_INVALID"),
        ("columns.jsonl", '{"text": "no context"}\n', "DATASET_INVALID"),
        ("broken.jsonl", "\xff\n", "DATASET_INVALID"),
    ):
        path = here.store.local_path(f"data/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="latin-1")
        spec = small_spec(here)
        spec["dataset"]["train_uri"] = f"data/{name}"
        code, found, fields = await refusal(here.create(spec))
        assert (code, found, fields) == (INVALID, reason, {"spec.dataset.train_uri"}), name


async def test_repeated_ids_are_bad_rows(here: Scene) -> None:
    spec = small_spec(here)
    data = rows("train", 10)
    for row in data:
        row["id"] = "same"
    spec["dataset"]["train_uri"] = write_rows(here.folder, "same.jsonl", data)
    code, reason, fields = await refusal(here.create(spec))
    assert (code, reason, fields) == (INVALID, "DATASET_INVALID", {"spec.dataset.train_uri"})


async def test_datasets_outside_the_store_are_refused(here: Scene) -> None:
    for uri in ("../secret.jsonl", "/etc/passwd.jsonl", "file:///etc/passwd.jsonl"):
        spec = small_spec(here)
        spec["dataset"]["train_uri"] = uri
        code, reason, _ = await refusal(here.create(spec))
        assert (code, reason) == (INVALID, "URI_OUTSIDE_STORE"), uri


async def test_a_dataset_that_is_not_there_is_not_found(here: Scene) -> None:
    spec = small_spec(here)
    spec["dataset"]["test_uri"] = "data/nothing.jsonl"
    assert (await refusal(here.create(spec)))[:2] == (grpc.StatusCode.NOT_FOUND, "DATASET_NOT_FOUND")


async def test_unknown_runs_are_not_found_by_every_call(here: Scene) -> None:
    name = "runs/nothing"
    calls = [
        here.stub.GetRun(pb.GetRunRequest(name=name)),
        here.stub.CancelRun(pb.CancelRunRequest(name=name)),
        here.stub.ResumeRun(pb.ResumeRunRequest(name=name)),
        here.stub.ExplainRun(pb.ExplainRunRequest(name=name)),
        here.stub.ListSamples(pb.ListSamplesRequest(parent=name, iteration=1)),
        here.stub.ListFeedbackTasks(pb.ListFeedbackTasksRequest(parent=name, annotator="ann")),
        here.stub.WatchRun(pb.WatchRunRequest(name=name)).read(),
    ]
    for call in calls:
        assert (await refusal(call))[:2] == (grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND")


async def test_lists_check_their_pages_and_samples_their_iteration(here: Scene) -> None:
    run = await here.end(await here.create(small_spec(here)))
    samples = pb.ListSamplesRequest
    for call, field in (
        (here.stub.ListSamples(samples(parent=run.name, iteration=2)), "iteration"),
        (here.stub.ListSamples(samples(parent=run.name, iteration=1, page_size=-1)), "page_size"),
        (here.stub.ListSamples(samples(parent=run.name, iteration=1, page_token="x")), "page_token"),
        (here.stub.ExplainRun(pb.ExplainRunRequest(name=run.name, page_token="x")), "page_token"),
        (here.stub.GetRun(pb.GetRunRequest(name="first")), "name"),
        (here.stub.ListFeedbackTasks(pb.ListFeedbackTasksRequest(parent="run")), "parent"),
        (here.stub.SubmitFeedback(pb.SubmitFeedbackRequest(name="x", annotator="a", feedback="f")), "name"),
        (here.stub.SubmitFeedback(pb.SubmitFeedbackRequest(name="x", feedback="f")), "annotator"),
        (here.stub.SubmitFeedback(pb.SubmitFeedbackRequest(name="x", annotator="a")), "feedback"),
        (here.stub.SubmitComparison(pb.SubmitComparisonRequest(name="x", annotator="a")), "preference"),
    ):
        code, _, fields = await refusal(call)
        assert (code, fields) == (INVALID, {field})


async def test_explanations_come_in_pages_in_the_order_of_the_work(here: Scene) -> None:
    run = await here.end(await here.create(small_spec(here)))
    found: list[tuple[int, str, int]] = []
    token = ""
    while True:
        page = await here.stub.ExplainRun(pb.ExplainRunRequest(name=run.name, page_size=4, page_token=token))
        found.extend((shard.iteration, shard.stage, shard.shard) for shard in page.shards)
        token = page.next_page_token
        if not token:
            break
    everything = await here.stub.ExplainRun(pb.ExplainRunRequest(name=run.name, page_size=1000))
    assert found == [(shard.iteration, shard.stage, shard.shard) for shard in everything.shards]
    assert len(found) == len(set(found)) == 2 * 2 + 6 * 5 + 2


async def test_a_watch_ends_with_the_run(here: Scene) -> None:
    run = await here.create(small_spec(here))
    states = [response.run.state async for response in here.stub.WatchRun(pb.WatchRunRequest(name=run.name))]
    assert states[-1] == pb.RUN_STATE_SUCCEEDED
    assert all(state != pb.RUN_STATE_SUCCEEDED for state in states[:-1])
    again = [response.run.state async for response in here.stub.WatchRun(pb.WatchRunRequest(name=run.name))]
    assert again == [pb.RUN_STATE_SUCCEEDED]
