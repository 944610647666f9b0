"""Every class of the error tree, through server, wire and client, with all its fields."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import error_details_pb2, status_pb2

from ilf_common import errors
from ilf_common.rpc.status import CODES, STATUS_DETAILS_KEY, from_status, to_status
from tests.fakes.demo_service import KINDS, SERVICE, DemoServicer, methods, send
from tests.support import running_channel

EVERY_CLASS = [
    errors.InvalidArgumentError(
        violations=[
            errors.FieldViolation("items[3].context", "is empty"),
            errors.FieldViolation("sampling.n", "must be 1 to 1024, is 0"),
        ],
        metadata={"limit": "1024"},
    ),
    errors.NotFoundError("No policy 'a'.", resource_type="policy", resource_name="a", reason="POLICY_NOT_FOUND"),
    errors.AlreadyExistsError("Run 'a' exists with another config.", metadata={"resource": "a"}),
    errors.FailedPreconditionError("The manifest is broken.", reason="CHECKPOINT_BROKEN", metadata={"file": "x"}),
    errors.AbortedError("The alias moved meanwhile."),
    errors.ResourceExhaustedError("The queue is full.", retry_after=1.5, metadata={"queued": "100"}),
    errors.ResourceExhaustedError("The quota is used up.", reason="QUOTA"),
    errors.UnavailableError("The engine is dead.", reason="ENGINE_DEAD", retry_after=0.25),
    errors.UnavailableError("Asked again at once.", retry_after=0.0),
    errors.DeadlineExceededError("Too late."),
    errors.CancelledError("Given up."),
    errors.UnauthenticatedError("Who are you?"),
    errors.PermissionDeniedError("Not you."),
    errors.UnimplementedError("Not here."),
    errors.InternalError("Our fault.", metadata={"request_id": "7"}),
]


def fields(error: errors.IlfError) -> dict[str, object]:
    return {"class": type(error), **vars(error)}


def test_the_list_holds_every_class_of_the_tree() -> None:
    assert {type(error) for error in EVERY_CLASS} == set(CODES)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", EVERY_CLASS, ids=lambda error: f"{type(error).__name__}-{error.reason}")
async def test_an_error_reaches_the_client_as_it_was_raised(error: errors.IlfError, kind: str) -> None:
    async with running_channel(DemoServicer(error).register) as channel:
        with pytest.raises(errors.IlfError) as caught:
            await send(channel, kind, "raise")
    assert fields(caught.value) == fields(error)


@pytest.mark.parametrize("error", EVERY_CLASS, ids=lambda error: f"{type(error).__name__}-{error.reason}")
def test_an_item_error_keeps_all_its_fields_inside_a_message(error: errors.IlfError) -> None:
    assert fields(from_status(to_status(error))) == fields(error)


async def test_the_domain_names_the_component() -> None:
    async with running_channel(DemoServicer(errors.AbortedError("x")).register, component="ranking") as channel:
        import grpc

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await methods(channel)["UnaryUnary"](StringValue(value="raise"))
    packed = dict(caught.value.trailing_metadata())[STATUS_DETAILS_KEY]
    status = status_pb2.Status.FromString(packed)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.domain, info.reason) == ("ranking.ilf", "ABORTED")


async def test_an_unknown_exception_says_nothing_but_the_request_id(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    async with running_channel(DemoServicer(KeyError("secret prompt")).register) as channel:
        with pytest.raises(errors.InternalError) as caught:
            await send(channel, "UnaryUnary", "raise")
    assert "secret" not in json.dumps([caught.value.message, caught.value.metadata])
    assert caught.value.metadata["request_id"]
    assert any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize("kind", KINDS)
async def test_so_many_wrong_fields_that_grpc_would_refuse_them_are_cut_and_counted(kind: str) -> None:
    violations = [errors.FieldViolation(f"items[{n}].item_id", "ä" * 100) for n in range(4096)]
    async with running_channel(DemoServicer(errors.InvalidArgumentError(violations=violations)).register) as channel:
        with pytest.raises(errors.InvalidArgumentError) as caught:
            await send(channel, kind, "raise")
    *first, last = caught.value.violations
    assert first and first == violations[: len(first)]
    assert last.description == f"… and {4096 - len(first)} more"


@pytest.mark.parametrize("error", [errors.FailedPreconditionError, errors.InternalError, errors.AbortedError])
async def test_a_message_beyond_what_grpc_takes_is_cut(error: type[errors.IlfError]) -> None:
    raised = error("ä" * 100_000, metadata={"where": "ß" * 10_000})
    async with running_channel(DemoServicer(raised).register) as channel:
        with pytest.raises(error) as caught:
            await send(channel, "UnaryUnary", "raise")
    assert caught.value.message == "ä" * 250 + "…"
    assert caught.value.metadata["where"].startswith("ßß")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_good_answer_passes_all_kinds(kind: str) -> None:
    async with running_channel(DemoServicer().register) as channel:
        assert (await send(channel, kind, "hello"))[-1] == "hello"


async def test_an_unknown_method_is_unimplemented() -> None:
    from ilf_common.rpc.client import call

    async with running_channel(DemoServicer().register) as channel:
        method: Any = channel.unary_unary(f"/{SERVICE}/Nothing", request_serializer=StringValue.SerializeToString)
        with pytest.raises(errors.UnimplementedError):
            await call(method, StringValue(), timeout=5)


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    from ilf_common.rpc.client import ChannelSettings, open_channel

    async with open_channel(ChannelSettings(address="127.0.0.1:1")) as channel:
        with pytest.raises(errors.UnavailableError):
            await send(channel, "UnaryUnary", "hello")
