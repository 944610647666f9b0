from dataclasses import replace
from datetime import UTC, datetime

import pytest
from google.protobuf import json_format
from ilf.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator.codec import digest_of, from_plain, to_plain
from services.orchestrator.convert import run_to_proto, spec_from_proto, to_message
from services.orchestrator.models import (
    FeedbackSource,
    FeedbackStage,
    FinetuneStage,
    Hyperparameters,
    LoraSpec,
    RunSpec,
    Sampling,
    Schedule,
    Seconds,
    Template,
)
from services.orchestrator.run import ErrorRecord, Iteration, Metric, Progress, Run, RunState, StageStatus, Waiting

SPEC = RunSpec(
    iterations=3,
    schedule=Schedule.CONTINUE,
    seed=2**64 - 1,
    max_bad_row_share=0.0,
    policy="base",
    feedback=FeedbackStage(
        FeedbackSource.PEOPLE,
        template=Template("t", "{context}", positive_answers=("Yes", " yes")),
        sampling=Sampling(temperature=0.0, seed=2**63),
        lease=Seconds(90.5),
        nothing_to_change=("fine",),
    ),
    finetune=FinetuneStage(Hyperparameters(lora=LoraSpec(rank=8, target_modules=("q", "v")), max_grad_norm=0.0)),
)
RUN = Run(
    "a",
    SPEC,
    RunState.WAITING,
    datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC),
    waiting=Waiting("PEOPLE", "1 of 2", datetime(2026, 1, 2, tzinfo=UTC)),
    error=ErrorRecord("InvalidArgumentError", "INVALID_FIELD", "wrong", {"field": "x"}),
    iterations=(Iteration(1, (StageStatus("refine", progress=Progress(3, 4)),), {"nll": Metric(1.5, 0.1, 7)}),),
)


def test_a_run_comes_back_from_the_store_as_it_was() -> None:
    assert from_plain(Run, to_plain(RUN)) == RUN


def test_a_spec_goes_to_the_client_and_back_unchanged() -> None:
    assert spec_from_proto(to_message(SPEC, pb.RunSpec)) == SPEC
    assert spec_from_proto(pb.RunSpec()) == RunSpec()


def test_unset_and_zero_are_told_apart() -> None:
    message = to_message(SPEC, pb.RunSpec)
    assert message.HasField("max_bad_row_share")
    assert message.feedback.sampling.HasField("temperature")
    assert not message.feedback.sampling.HasField("top_p")


def test_clients_see_no_inner_fields_of_a_run() -> None:
    message = run_to_proto(RUN)
    assert message.name == "runs/a"
    assert message.error.message == "wrong" and message.error.code == 3
    assert message.iterations[0].metrics["nll"].n == 7
    assert message.waiting.since.ToJsonString() == "2026-01-02T00:00:00Z"


def test_digests_see_values_not_the_order_of_keys() -> None:
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    assert digest_of(SPEC) != digest_of(replace(SPEC, seed=1))


def test_values_of_another_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="SCHEDULE_NEVER"):
        from_plain(RunSpec, {"schedule": "SCHEDULE_NEVER"})
    with pytest.raises(ValueError, match="lacks"):
        from_plain(Run, {"id": "a"})


def test_not_a_number_reaches_the_checks_as_such() -> None:
    message = json_format.ParseDict({"select": {"beta": "NaN"}}, pb.RunSpec())
    assert spec_from_proto(message).select.beta != spec_from_proto(message).select.beta
