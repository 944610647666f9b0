"""The one error tree of the project.

Each class has one meaning and one gRPC status; `reason` (UPPER_SNAKE) is what programs compare, the message is for
people: what was wrong, with which value, what to do. `ilf_common.rpc` carries errors over the wire and back, so that
a client catches the very class that a service raised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class FieldViolation:
    """One wrong field of a request or a file.

    Attributes:
        field: Path of the field, as in `items[3].context`.
        description: What is wrong with it and what is allowed.
    """

    field: str
    description: str


class IlfError(Exception):
    """Base of all errors that this project raises on purpose.

    Args:
        message: For people; holds no prompt, text or secret.
        reason: For programs, UPPER_SNAKE; each class has a default.
        metadata: Small facts that go with the reason (a name, a limit).
    """

    default_reason = "INTERNAL"

    def __init__(self, message: str, *, reason: str | None = None, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.metadata: dict[str, str] = dict(metadata or {})


class InvalidArgumentError(IlfError):
    """The request can never work as it is; `violations` name the fields."""

    default_reason = "INVALID_FIELD"

    def __init__(
        self,
        message: str = "",
        *,
        violations: Sequence[FieldViolation] = (),
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        text = message or "; ".join(f"{v.field}: {v.description}" for v in violations)
        super().__init__(text, reason=reason, metadata=metadata)
        self.violations = tuple(violations)

    @classmethod
    def of(cls, field: str, description: str, *, reason: str | None = None) -> InvalidArgumentError:
        """The error for one wrong field."""
        return cls(violations=[FieldViolation(field, description)], reason=reason)


class NotFoundError(IlfError):
    """The named resource does not exist."""

    default_reason = "NOT_FOUND"

    def __init__(self, message: str, *, resource_type: str, resource_name: str, reason: str | None = None) -> None:
        super().__init__(message, reason=reason, metadata={"resource": resource_name})
        self.resource_type = resource_type
        self.resource_name = resource_name


class AlreadyExistsError(IlfError):
    """The resource exists with other content, so the request cannot be a repeat of the first one."""

    default_reason = "ALREADY_EXISTS"


class FailedPreconditionError(IlfError):
    """The request is well formed, but the system is not in the state that it needs."""

    default_reason = "FAILED_PRECONDITION"


class AbortedError(IlfError):
    """Somebody else changed the resource meanwhile; read it again and decide anew."""

    default_reason = "ABORTED"


class RetryableError(IlfError):
    """The same call may work later.

    Args:
        retry_after: Seconds after which a repeat makes sense, when the server knows.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        self.retry_after = retry_after


class ResourceExhaustedError(RetryableError):
    """A queue or quota is full."""

    default_reason = "QUEUE_FULL"


class UnavailableError(RetryableError):
    """The service, or one that it needs, does not answer at the moment."""

    default_reason = "UNAVAILABLE"


class DeadlineExceededError(RetryableError):
    """The caller's deadline passed before the work was done."""

    default_reason = "DEADLINE_EXCEEDED"


class CancelledError(IlfError):
    """The caller gave up."""

    default_reason = "CANCELLED"


class UnauthenticatedError(IlfError):
    """No valid token or certificate came with the call."""

    default_reason = "UNAUTHENTICATED"


class PermissionDeniedError(IlfError):
    """The caller is known, but may not do this."""

    default_reason = "PERMISSION_DENIED"


class UnimplementedError(IlfError):
    """The server does not offer this."""

    default_reason = "UNIMPLEMENTED"


class InternalError(IlfError):
    """A fault of ours. The message is fixed; the server's log has the cause under the request id."""

    default_reason = "INTERNAL"


def require(condition: bool, field: str, description: str) -> None:
    """Refuses a request at the door.

    Raises:
        InvalidArgumentError: `condition` is false.
    """
    if not condition:
        raise InvalidArgumentError.of(field, description)
