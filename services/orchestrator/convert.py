"""Protos to models and back. Specs and runs go through proto JSON, which the codec speaks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from google.protobuf import any_pb2, json_format
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from ilf.orchestrator.v1 import orchestrator_service_pb2 as pb
from ilf.ranking.v1 import ranking_service_pb2 as ranking_pb

from ilf_common import errors
from ilf_common.errors import InvalidArgumentError
from ilf_common.rpc.status import CODES
from services.orchestrator.codec import from_plain, to_plain
from services.orchestrator.models import RunSpec
from services.orchestrator.pools.models import PoolView
from services.orchestrator.rows import Row
from services.orchestrator.run import ErrorRecord, Run, RunState
from services.orchestrator.sample_query import SampleFilter, SampleOrder, SampleQuery
from services.orchestrator.shards import ShardExplanation

ModelT = TypeVar("ModelT")
MessageT = TypeVar("MessageT", bound=Message)

_DOMAIN = "orchestrator.ilf"
_INNER_FIELDS = frozenset({"id", "plan", "attempt", "generation", "resume_request_id", "error"})


def to_model(message: Message, model: type[ModelT]) -> ModelT:
    """The dataclass with the fields of a message.

    Raises:
        InvalidArgumentError: An enum has a number that this server does not know.
    """
    try:
        return from_plain(model, json_format.MessageToDict(message, preserving_proto_field_name=True))
    except ValueError as error:
        raise InvalidArgumentError.of("spec", f"holds a value that this server does not know: {error}") from error


def to_message(value: object, message: type[MessageT]) -> MessageT:
    """The message with the fields of a dataclass."""
    return json_format.ParseDict(to_plain(value), message())


def spec_from_proto(message: pb.RunSpec) -> RunSpec:
    """A spec as the client sent it."""
    return to_model(message, RunSpec)


def run_states_from_proto(states: Sequence[int]) -> frozenset[RunState]:
    """The states that a request names.

    Raises:
        InvalidArgumentError: One that no run is ever in.
    """
    known: dict[int, RunState] = {number: RunState(name) for name, number in pb.RunState.items() if number}
    for index, state in enumerate(states):
        if state not in known:
            raise InvalidArgumentError.of(f"states[{index}]", f"must be a state of a run, is {state}")
    return frozenset(known[state] for state in states)


def run_to_proto(run: Run) -> pb.Run:
    """A run without what only this service needs."""
    plain = {name: value for name, value in to_plain(run).items() if name not in _INNER_FIELDS}
    message = json_format.ParseDict({"name": run.name, **plain}, pb.Run())
    if run.error is not None:
        message.error.CopyFrom(error_to_proto(run.error))
    return message


def error_to_proto(error: ErrorRecord) -> status_pb2.Status:
    """A kept error as a status."""
    kind = getattr(errors, error.kind, errors.InternalError)
    status = status_pb2.Status(code=CODES.get(kind, CODES[errors.InternalError]).value[0], message=error.message)
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=_DOMAIN, metadata=dict(error.metadata))
    packed = any_pb2.Any()
    packed.Pack(info)
    status.details.append(packed)
    return status


def explanation_to_proto(explanation: ShardExplanation) -> pb.ShardExplanation:
    """Why a shard was made or reused."""
    record = explanation.record
    return pb.ShardExplanation(
        iteration=explanation.shard.iteration,
        stage=explanation.shard.stage,
        shard=explanation.shard.index,
        key=record.key,
        rows=record.rows,
        bad_rows=record.bad_rows,
        outcome=explanation.outcome,
        key_parts=dict(record.key_parts),
        reason=record.reason,
    )


def sample_query_from_proto(request: pb.ListSamplesRequest) -> SampleQuery:
    """What a request for samples asks for.

    Raises:
        InvalidArgumentError: An order that this server does not know.
    """
    if request.order_by not in pb.SampleOrder.values():
        raise InvalidArgumentError.of("order_by", f"must be one of SampleOrder's numbers, is {request.order_by}")
    return SampleQuery(
        to_model(request.filter, SampleFilter), SampleOrder(pb.SampleOrder.Name(request.order_by)), request.descending
    )


def sample_to_proto(row: Row) -> pb.RunSample:
    """A row with its refinements, scores and weights."""
    sample = pb.RunSample(
        item_id=row.item_id,
        context=row.context,
        initial_output=row.initial_output or "",
        feedback=row.feedback or "",
        candidates=[_candidate(row, index) for index in range(len(row.refinements))],
        chosen_index=max(row.chosen_index, 0),
    )
    if row.failure is not None:
        failure = row.failure
        sample.failed_stage = failure.stage
        sample.error.CopyFrom(error_to_proto(ErrorRecord(failure.kind, failure.reason, failure.message)))
    return sample


def _candidate(row: Row, index: int) -> pb.Candidate:
    candidate = pb.Candidate(text=row.refinements[index])
    if index < len(row.weights):
        candidate.weight = row.weights[index]
    if index < len(row.scores):
        score = row.scores[index]
        candidate.score.CopyFrom(
            ranking_pb.CandidateScore(
                score=score.score,
                spread=score.spread,
                missing_mass=score.missing_mass,
                judge_scores=[
                    ranking_pb.JudgeScore(judge=name, score=value, missing_mass=missing)
                    for name, value, missing in score.judges
                ],
            )
        )
    return candidate


def pool_to_proto(view: PoolView) -> pb.Pool:
    """A pool of serving replicas."""
    message = pb.Pool(
        name=view.rules.name,
        want=view.decision.want,
        have=view.have,
        why=view.decision.why,
        backlog=view.backlog,
        rows=view.rows,
        queued_items=view.front.queued_items if view.front else 0,
        running_items=view.front.running_items if view.front else 0,
        items_per_second=view.speed.items_per_second,
        rate_measured=view.speed.rate_measured,
        start_seconds=view.speed.start_seconds,
        start_measured=view.speed.start_measured,
        min_replicas=view.rules.min_replicas,
        max_replicas=view.rules.max_replicas,
        front_answers=view.front is not None,
    )
    message.since.FromDatetime(view.decision.since)
    return message
