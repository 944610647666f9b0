"""Versions of the policy, and the aliases that point at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum


class PolicyKind(Enum):
    """What a policy version is made of."""

    UNSPECIFIED = "unspecified"
    CHECKPOINT = "checkpoint"
    ADAPTER = "adapter"


class PolicyState(Enum):
    """Whether a policy version takes requests."""

    UNSPECIFIED = "unspecified"
    LOADING = "loading"
    SERVING = "serving"
    DRAINING = "draining"
    FAILED = "failed"
    PARKED = "parked"


@dataclass(frozen=True)
class Policy:
    """A policy version (`<run>/it-<k>`), or a model that the server was started with.

    Attributes:
        failure: In state FAILED: why the version could not be restored.
        rollback_targets: For each of the aliases that a rollback would move: the version that it would point at.
    """

    name: str
    kind: PolicyKind = PolicyKind.UNSPECIFIED
    state: PolicyState = PolicyState.UNSPECIFIED
    uri: str = ""
    base_model: str = ""
    digest: str = ""
    load_time: datetime | None = None
    aliases: Sequence[str] = ()
    max_model_len: int = 0
    running_requests: int = 0
    failure: str = ""
    rollback_targets: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PolicyAlias:
    """Where an alias points, and where `rollback` would point it."""

    alias: str
    policy: str
    previous_policy: str = ""
