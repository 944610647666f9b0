"""What each arm answers to the rows of a part."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ilf_client.evaluation.best_of_n import CHOSEN, RESULT
from ilf_client.evaluation.files import digest_of
from ilf_client.evaluation.parts import Stage, failure_of
from ilf_client.evaluation.rows import Part, RowReader
from ilf_client.evaluation.sampling import Prompting, Version, pinned, sample
from ilf_client.evaluation.texts import TextMap, outputs_of
from ilf_client.models.evaluation import Arm, EvaluationSpec
from ilf_client.models.inference import SamplingParams
from ilf_common.errors import FieldViolation, InvalidArgumentError, NotFoundError

if TYPE_CHECKING:
    from ilf_client.aio.services import AsyncServices

_SOURCES = ("policy", "column", "pool", "file")


@dataclass(frozen=True)
class Answers:
    """Outputs by row id, and why rows have none."""

    outputs: Mapping[str, str]
    failures: Sequence[str] = ()


class Source(Protocol):
    """Where an arm's outputs come from."""

    @property
    def label(self) -> str:
        """What it is, for results."""

    async def answers(self, part: Part) -> Answers:
        """The outputs of a part's rows."""


@dataclass(frozen=True)
class PolicySource:
    """Samples one answer of a policy version to each context."""

    client: AsyncServices
    version: Version
    how: Prompting
    stage: Stage

    @property
    def label(self) -> str:
        """As `Source.label`."""
        return str(self.version)

    async def answers(self, part: Part) -> Answers:
        """As `Source.answers`."""
        records = await sample(self.client, self.version, self.how, self.stage, part)
        outputs = {
            item_id: record["samples"][0]["text"] for item_id, record in records.items() if "error" not in record
        }
        return Answers(outputs, [failure_of(record) for record in records.values() if "error" in record])


@dataclass(frozen=True)
class TextSource:
    """Outputs that are there already; rows without one are left out."""

    label: str
    texts: TextMap

    async def answers(self, part: Part) -> Answers:
        """As `Source.answers`."""
        outputs = self.texts.of([row.id for row in part.rows])
        return Answers(outputs, ["no output"] * (len(part.rows) - len(outputs)))


def check_arms(spec: EvaluationSpec) -> None:
    """Refuses arms and pairings that cannot be.

    Raises:
        InvalidArgumentError: With all that is wrong.
    """
    wrong = []
    if not spec.arms:
        wrong.append(FieldViolation("arms", "is empty; name at least one"))
    names = [arm.name for arm in spec.arms]
    for index, arm in enumerate(spec.arms):
        given = [source for source in _SOURCES if getattr(arm, source)]
        if len(given) != 1:
            wrong.append(
                FieldViolation(f"arms[{index}]", f"has {given or 'nothing'}; exactly one of {_SOURCES} is wanted")
            )
        if not arm.name or names.count(arm.name) > 1:
            wrong.append(
                FieldViolation(f"arms[{index}].name", f"{arm.name!r} is empty or not the only one of its name")
            )
    for index, pairing in enumerate(spec.pairings):
        for side in ("arm", "rival"):
            name = getattr(pairing, side)
            if name not in names:
                wrong.append(FieldViolation(f"pairings[{index}].{side}", f"{name!r} is none of the arms {names}"))
        if pairing.arm == pairing.rival:
            wrong.append(FieldViolation(f"pairings[{index}]", "compares an arm with itself"))
    if wrong:
        raise InvalidArgumentError(violations=wrong)


async def source_of(client: AsyncServices, spec: EvaluationSpec, arm: Arm, rows: RowReader, folder: Path) -> Source:
    """Opens an arm.

    Raises:
        NotFoundError: There is no such policy, pool or file.
        InvalidArgumentError: There is no such column, or the file is broken.
    """
    if arm.policy:
        version = await pinned(client, arm.policy)
        how = Prompting(replace(spec.sampling or SamplingParams(), n=1), spec.template, spec.post_processing, spec.seed)
        return PolicySource(client, version, how, Stage(folder, "answers", {"policy": str(version), **how.key}))
    field = f"arm {arm.name}"
    if arm.column:
        return TextSource(f"column {arm.column}", TextMap(rows.column(arm.column), field))
    path = Path(arm.file) if arm.file else Path(arm.pool) / CHOSEN
    label = f"best of {pool_result(arm)['n']} of {pool_result(arm)['policy']}" if arm.pool else f"file {path.name}"
    return TextSource(label, TextMap(outputs_of(path, field), field))


def pool_result(arm: Arm) -> dict[str, Any]:
    """What best-of-N wrote about a pool.

    Raises:
        NotFoundError: reason POOL_NOT_FOUND; it has not ended there.
    """
    path = Path(arm.pool) / RESULT
    if not path.is_file():
        raise NotFoundError(
            f"arm {arm.name}: {arm.pool} holds no finished best-of-N ({RESULT}); run `ilf best-of-n` there first.",
            resource_type="pool",
            resource_name=arm.pool,
            reason="POOL_NOT_FOUND",
        )
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def cluster_of(context: str) -> str:
    """What rows with the same context share."""
    return digest_of(context)[:16]
