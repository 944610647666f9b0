"""The error tree as `google.rpc.Status`, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar, cast

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from ilf_common import errors
from ilf_common.rpc.context import current_domain

STATUS_DETAILS_KEY = "grpc-status-details-bin"
_TRAILER_BYTES = 3500
_TRAILER_TEXT = 500
"""Bytes; a message counts up to three times its bytes once more, because gRPC escapes what is not ASCII."""
MessageT = TypeVar("MessageT", bound=Message)

CODES: Mapping[type[errors.IlfError], grpc.StatusCode] = {
    errors.InvalidArgumentError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFoundError: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExistsError: grpc.StatusCode.ALREADY_EXISTS,
    errors.FailedPreconditionError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.AbortedError: grpc.StatusCode.ABORTED,
    errors.ResourceExhaustedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.UnavailableError: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlineExceededError: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.CancelledError: grpc.StatusCode.CANCELLED,
    errors.UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDeniedError: grpc.StatusCode.PERMISSION_DENIED,
    errors.UnimplementedError: grpc.StatusCode.UNIMPLEMENTED,
    errors.InternalError: grpc.StatusCode.INTERNAL,
}
_CLASSES: Mapping[grpc.StatusCode, type[errors.IlfError]] = {
    **{code: kind for kind, code in CODES.items()},
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidArgumentError,
}


def status_code(error: errors.IlfError) -> grpc.StatusCode:
    """The gRPC code of an error: that of the nearest class of the tree."""
    return next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), grpc.StatusCode.INTERNAL)


def to_status(error: errors.IlfError, *, domain: str | None = None) -> status_pb2.Status:
    """Packs an error for the wire, whole or for one item of a batch.

    Args:
        error: Any error of the tree.
        domain: Domain of the ErrorInfo; by default that of the component whose call is being answered.

    Returns:
        A status with an ErrorInfo first, and the further details that fit the class.
    """
    return _pack(error, domain or current_domain(), error.message, error.metadata, _violations(error))


def to_trailer(error: errors.IlfError) -> status_pb2.Status:
    """Packs an error for the end of a call, cut to what gRPC takes there.

    A status travels as metadata, and gRPC refuses more than 8 KiB of it: the caller would read RESOURCE_EXHAUSTED
    instead of the error. The first wrong fields are kept, and the last entry tells how many more there are.
    """
    message = _cut(error.message)
    metadata = {key: _cut(value) for key, value in error.metadata.items()}
    violations = [errors.FieldViolation(_cut(v.field), _cut(v.description)) for v in _violations(error)]
    kept = len(violations)
    while True:
        more = len(violations) - kept
        note = [errors.FieldViolation("", f"… and {more} more")] if more else []
        status = _pack(error, current_domain(), message, metadata, [*violations[:kept], *note])
        if kept == 0 or status.ByteSize() <= _TRAILER_BYTES:
            return status
        kept //= 2


def _cut(text: str) -> str:
    encoded = text.encode()
    if len(encoded) <= _TRAILER_TEXT:
        return text
    return encoded[:_TRAILER_TEXT].decode(errors="ignore") + "…"


def _violations(error: errors.IlfError) -> Sequence[errors.FieldViolation]:
    return error.violations if isinstance(error, errors.InvalidArgumentError) else ()


def _pack(
    error: errors.IlfError,
    domain: str,
    message: str,
    metadata: Mapping[str, str],
    violations: Sequence[errors.FieldViolation],
) -> status_pb2.Status:
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=domain, metadata=dict(metadata))
    status = status_pb2.Status(code=status_code(error).value[0], message=message)
    for detail in [info, *_further_details(error, message, violations)]:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _further_details(
    error: errors.IlfError, message: str, violations: Sequence[errors.FieldViolation]
) -> list[Message]:
    if violations:
        rows = [
            error_details_pb2.BadRequest.FieldViolation(field=v.field, description=v.description, reason=error.reason)
            for v in violations
        ]
        return [error_details_pb2.BadRequest(field_violations=rows)]
    if isinstance(error, errors.NotFoundError):
        return [
            error_details_pb2.ResourceInfo(
                resource_type=error.resource_type, resource_name=error.resource_name, description=message
            )
        ]
    if isinstance(error, errors.FailedPreconditionError):
        violation = error_details_pb2.PreconditionFailure.Violation(
            type=error.reason, subject=error.metadata.get("resource", ""), description=message
        )
        return [error_details_pb2.PreconditionFailure(violations=[violation])]
    if isinstance(error, errors.RetryableError) and error.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(round(error.retry_after * 1e9))
        return [error_details_pb2.RetryInfo(retry_delay=delay)]
    return []


def from_status(status: status_pb2.Status) -> errors.IlfError:
    """Rebuilds the error that `to_status` packed; a status of another origin becomes the nearest class."""
    info = _detail(status, error_details_pb2.ErrorInfo)
    error = _build(_class_of(status.code), status, info.reason or None)
    error.metadata = dict(info.metadata)
    return error


def _class_of(code: int) -> type[errors.IlfError]:
    found = next((kind for known, kind in _CLASSES.items() if known.value[0] == code), None)
    return found or errors.InternalError


def _build(kind: type[errors.IlfError], status: status_pb2.Status, reason: str | None) -> errors.IlfError:
    if issubclass(kind, errors.InvalidArgumentError):
        violations = [
            errors.FieldViolation(v.field, v.description)
            for v in _detail(status, error_details_pb2.BadRequest).field_violations
        ]
        return kind(status.message, violations=violations, reason=reason)
    if issubclass(kind, errors.NotFoundError):
        resource = _detail(status, error_details_pb2.ResourceInfo)
        return kind(
            status.message,
            resource_type=resource.resource_type,
            resource_name=resource.resource_name,
            reason=reason,
        )
    if issubclass(kind, errors.RetryableError):
        return kind(status.message, reason=reason, retry_after=_retry_after(status))
    return kind(status.message, reason=reason)


def _retry_after(status: status_pb2.Status) -> float | None:
    for packed in status.details:
        info = error_details_pb2.RetryInfo()
        if packed.Is(info.DESCRIPTOR) and packed.Unpack(info):
            return cast(float, info.retry_delay.ToNanoseconds() / 1e9)
    return None


def _detail(status: status_pb2.Status, kind: type[MessageT]) -> MessageT:
    """The detail of a kind, empty where the status has none."""
    found = kind()
    for packed in status.details:
        if packed.Is(found.DESCRIPTOR):
            packed.Unpack(found)
            break
    return found


def from_rpc_error(error: grpc.RpcError) -> errors.IlfError:
    """The error behind a failed call: what the server packed, or else the nearest class for the bare code."""
    call = cast(grpc.Call, error)
    details = dict(call.trailing_metadata() or ()).get(STATUS_DETAILS_KEY)
    if isinstance(details, bytes):
        try:
            return from_status(status_pb2.Status.FromString(details))
        except DecodeError:
            pass
    code = call.code()
    status = status_pb2.Status(code=code.value[0] if code else code_pb2.UNKNOWN, message=call.details() or "")
    return from_status(status)
