"""Shards: where they lie, what their key is made of, and how much of the work they say is done."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.orchestrator.codec import digest_of
from services.orchestrator.run import Usage

STAGE_VERSIONS: Mapping[str, int] = {
    "input": 1,
    "generate": 1,
    "feedback": 1,
    "refine": 1,
    "rank": 1,
    "select": 1,
    "evaluate": 1,
}
"""Raised by hand when a stage's meaning changes, so that its shards are made again; not at every edit of the code."""


@dataclass(frozen=True, order=True)
class ShardId:
    """One shard of one stage."""

    run_id: str
    iteration: int
    stage: str
    index: int

    @property
    def folder(self) -> str:
        """Key of the stage's directory in the artifact store."""
        return f"runs/{self.run_id}/it-{self.iteration}/{self.stage}"

    @property
    def file_name(self) -> str:
        """Name of the part."""
        return f"part-{self.index:05d}.parquet"

    @property
    def record_key(self) -> str:
        """Key of the record that makes the part exist for readers."""
        return f"{self.folder}/.part-{self.index:05d}.json"

    def of_stage(self, stage: str) -> ShardId:
        """The shard of another stage about the same rows."""
        return ShardId(self.run_id, self.iteration, stage, self.index)


@dataclass(frozen=True)
class ShardRecord:
    """What is known of a published shard; written after its part, so that a part without one does not exist.

    Attributes:
        key: Digest of `key_parts`.
        key_parts: What the shard follows from, by name.
        sha256: Of the part's bytes.
        size: Bytes.
        bad_rows: Rows that failed in this very stage.
        generation: The run's generation that made it.
        reason: Why it was made again, where it was.
    """

    key: str
    key_parts: Mapping[str, str]
    sha256: str
    size: int
    rows: int
    bad_rows: int
    usage: Usage = field(default_factory=Usage)
    generation: int = 0
    reason: str = ""


@dataclass(frozen=True)
class ShardExplanation:
    """Why a shard was made or reused."""

    shard: ShardId
    record: ShardRecord
    outcome: str


@dataclass(frozen=True)
class StageKey:
    """The key parts that all shards of a stage share."""

    stage: str
    parts: Mapping[str, str] = field(default_factory=dict)

    def for_input(self, input_digest: str) -> dict[str, str]:
        """All key parts of the shard that is made from an input with this digest."""
        return {"stage_version": str(STAGE_VERSIONS[self.stage]), "input": input_digest, **self.parts}


def shard_key(parts: Mapping[str, str]) -> str:
    """The key: equal parts, equal shard."""
    return digest_of(dict(parts))


def why_again(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Which parts of a key changed, for people; digests are cut short."""
    changes = []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name, "none"), now.get(name, "none")
        if old != new:
            changes.append(f"{name} was {_short(old)}, is {_short(new)}")
    return "; ".join(changes)


def _short(value: str) -> str:
    return value[:12] if re.fullmatch(r"[0-9a-f]{64}", value) else value


def shard_count(rows: int, shard_rows: int) -> int:
    """How many shards hold so many rows."""
    return -(-rows // shard_rows)
