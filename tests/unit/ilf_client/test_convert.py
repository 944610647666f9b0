from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from ilf.common.v1 import common_pb2 as common
from ilf.data.v1 import data_service_pb2 as data
from ilf.finetune.v1 import finetune_service_pb2 as finetune
from ilf.orchestrator.v1 import orchestrator_service_pb2 as orchestrator
from ilf.ranking.v1 import ranking_service_pb2 as ranking
from ilf.refinement.v1 import refinement_service_pb2 as refinement
from ilf.reward.v1 import reward_service_pb2 as reward

import ilf_client as sdk
from ilf_client._convert import from_proto, to_proto
from ilf_client.models import specs
from ilf_common.errors import InvalidArgumentError, UnavailableError
from ilf_common.rpc.status import to_status

PAIRS: list[tuple[type, type[Message]]] = [
    (sdk.SamplingParams, common.SamplingParams),
    (sdk.PostProcessing, common.PostProcessing),
    (sdk.Sample, common.Sample),
    (sdk.Usage, common.Usage),
    (sdk.Progress, common.Progress),
    (sdk.Upload, data.Upload),
    (sdk.RefineItem, refinement.RefineItem),
    (sdk.RefineResult, refinement.RefineResponse),
    (sdk.GenerateItem, refinement.GenerateItem),
    (sdk.GenerateResult, refinement.GenerateResponse),
    (sdk.ScoreTextItem, refinement.ScoreTextItem),
    (sdk.TextScore, refinement.ScoreTextResponse),
    (sdk.Policy, refinement.Policy),
    (sdk.PolicyAlias, refinement.PolicyAlias),
    (sdk.JudgeSpec, ranking.JudgeSpec),
    (sdk.RankerSpec, ranking.RankerSpec),
    (sdk.RankItem, ranking.RankItem),
    (sdk.RankResult, ranking.RankResponse),
    (sdk.CandidateScore, ranking.CandidateScore),
    (sdk.JudgeScore, ranking.JudgeScore),
    (sdk.CompareItem, ranking.CompareItem),
    (sdk.Comparison, ranking.CompareResponse),
    (sdk.Ranker, ranking.Ranker),
    (sdk.ScoreItem, reward.ScoreItem),
    (sdk.RewardScore, reward.ScoreResponse),
    (sdk.RewardComparison, reward.CompareResponse),
    (sdk.CompareItem, reward.CompareItem),
    (sdk.RewardReport, reward.RewardReport),
    (sdk.RewardOptions, finetune.RewardOptions),
    (sdk.BestOfN, reward.BestOfNResponse),
    (sdk.RewardModel, reward.RewardModel),
    (sdk.LoraSpec, finetune.LoraSpec),
    (sdk.Hyperparameters, finetune.Hyperparameters),
    (sdk.FinetuneSpec, finetune.FinetuneSpec),
    (sdk.FinetuneJob, finetune.FinetuneJob),
    (sdk.JobProgress, finetune.FinetuneProgress),
    (sdk.Condition, finetune.Condition),
    (sdk.ColumnMap, orchestrator.ColumnMap),
    (sdk.DatasetSpec, orchestrator.DatasetSpec),
    (sdk.GenerateStage, orchestrator.GenerateStage),
    (sdk.FeedbackStage, orchestrator.FeedbackStage),
    (sdk.RefineStage, orchestrator.RefineStage),
    (sdk.RankStage, orchestrator.RankStage),
    (sdk.SelectStage, orchestrator.SelectStage),
    (sdk.FinetuneStage, orchestrator.FinetuneStage),
    (sdk.EvaluateStage, orchestrator.EvaluateStage),
    (sdk.RunSpec, orchestrator.RunSpec),
    (sdk.Run, orchestrator.Run),
    (sdk.Iteration, orchestrator.Iteration),
    (sdk.StageStatus, orchestrator.StageStatus),
    (sdk.Metric, orchestrator.Metric),
    (sdk.Waiting, orchestrator.Waiting),
    (sdk.ShardExplanation, orchestrator.ShardExplanation),
    (sdk.RunSample, orchestrator.RunSample),
    (sdk.Candidate, orchestrator.Candidate),
    (sdk.Pool, orchestrator.Pool),
    (sdk.FeedbackTask, orchestrator.FeedbackTask),
    (sdk.FeedbackTasks, orchestrator.ListFeedbackTasksResponse),
    (sdk.ComparisonTask, orchestrator.ComparisonTask),
    (sdk.ComparisonTasks, orchestrator.ListComparisonTasksResponse),
]


@pytest.mark.parametrize(("value", "message"), PAIRS, ids=lambda kind: getattr(kind, "__name__", ""))
def test_a_value_has_only_fields_of_its_message(value: type, message: type[Message]) -> None:
    names = {field.name for field in fields(value)}
    assert names <= set(message.DESCRIPTOR.fields_by_name)


@pytest.mark.parametrize("value", [value for value, _ in PAIRS if value.__module__.endswith("specs")])
def test_what_a_run_may_be_told_is_complete(value: type) -> None:
    message = dict(PAIRS)[value]
    assert {field.name for field in fields(value)} == set(message.DESCRIPTOR.fields_by_name)


@pytest.mark.parametrize(("value", "message"), PAIRS, ids=lambda kind: getattr(kind, "__name__", ""))
def test_an_empty_message_becomes_a_value(value: type, message: type[Message]) -> None:
    assert isinstance(from_proto(message(), value), value)


ENUMS = [
    (specs.Schedule, orchestrator.Schedule),
    (specs.OutputSource, orchestrator.GenerateStage.Source),
    (specs.FeedbackSource, orchestrator.FeedbackStage.Source),
    (specs.NothingToChange, orchestrator.FeedbackStage.NothingToChange),
    (specs.SelectMethod, orchestrator.SelectStage.Method),
    (specs.FinetuneTarget, orchestrator.FinetuneStage.Target),
    (sdk.RunState, orchestrator.RunState),
    (sdk.StageState, orchestrator.StageState),
    (sdk.TaskState, orchestrator.TaskState),
    (sdk.Preference, orchestrator.Preference),
    (sdk.JobState, finetune.FinetuneJobState),
    (sdk.FinetuneKind, finetune.FinetuneKind),
    (sdk.PolicyKind, refinement.PolicyKind),
    (sdk.PolicyState, refinement.PolicyState),
    (sdk.FinishReason, common.FinishReason),
]


@pytest.mark.parametrize(("ours", "theirs"), ENUMS)
def test_an_enum_has_the_values_of_its_proto(ours: type, theirs: object) -> None:
    keys = theirs.keys()  # type: ignore[attr-defined]
    prefix = keys[0].removesuffix("UNSPECIFIED")
    assert [member.name for member in ours] == [key.removeprefix(prefix) for key in keys]  # type: ignore[attr-defined]


def test_a_value_of_a_newer_server_is_unspecified() -> None:
    run = orchestrator.Run()
    run.state = 99  # type: ignore[assignment]
    assert from_proto(run, sdk.Run).state is sdk.RunState.UNSPECIFIED


def test_times_errors_maps_and_nested_values_come_over() -> None:
    message = orchestrator.Run(name="runs/x", error=to_status(UnavailableError("down", retry_after=2.0)))
    message.create_time.FromDatetime(datetime(2025, 1, 2, 3, tzinfo=UTC))
    message.iterations.add(index=1).metrics["exact"].CopyFrom(orchestrator.Metric(value=0.5, standard_error=0.1, n=9))
    run = from_proto(message, sdk.Run)
    assert run.create_time == datetime(2025, 1, 2, 3, tzinfo=UTC)
    assert run.end_time is None
    assert isinstance(run.error, UnavailableError) and run.error.retry_after == 2.0
    assert run.iterations[0].metrics["exact"] == sdk.Metric(0.5, 0.1, 9)


def test_a_duration_and_templates_go_over() -> None:
    template = sdk.PromptTemplate("own", "{context}")
    spec = sdk.RunSpec(
        feedback=sdk.FeedbackStage(sdk.FeedbackSource.CRITIC, template="critic", lease=timedelta(minutes=5)),
        generate=sdk.GenerateStage(template=template),
    )
    message = to_proto(spec, orchestrator.RunSpec())
    assert message.feedback.lease.seconds == 300
    assert (message.feedback.template.name, message.feedback.template.text) == ("critic", "")
    assert from_proto(message, sdk.RunSpec) == spec


@given(
    st.builds(
        sdk.SamplingParams,
        n=st.none() | st.integers(1, 1024),
        temperature=st.none() | st.floats(0, 10),
        top_p=st.none() | st.floats(0.01, 1),
        max_new_tokens=st.none() | st.integers(1, 32768),
        seed=st.none() | st.integers(0, 2**63 - 1),
        stop=st.lists(st.text(st.characters(codec="utf-8"))).map(tuple),
    )
)
def test_sampling_comes_back_as_it_went(sampling: sdk.SamplingParams) -> None:
    assert from_proto(to_proto(sampling, common.SamplingParams()), sdk.SamplingParams) == sampling


def test_a_wrong_value_names_its_place() -> None:
    spec = sdk.RunSpec(rank=sdk.RankStage(sdk.RankerSpec(judges=[sdk.JudgeSpec("a", model=3)])))  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError) as caught:
        to_proto(spec, orchestrator.RunSpec())
    assert caught.value.violations[0].field == "rank.ranker.judges[0].model"
