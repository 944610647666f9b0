"""What a policy answers to the contexts of a dataset, kept so that no sample is drawn twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ilf_client.evaluation.files import seed_of
from ilf_client.evaluation.parts import Record, Stage, answers
from ilf_client.evaluation.rows import Part
from ilf_client.models.inference import GenerateItem, GenerateResult, PostProcessing, SamplingParams
from ilf_common.errors import FailedPreconditionError
from ilf_common.templates import PromptTemplate

if TYPE_CHECKING:
    from ilf_client.aio.services import AsyncServices


@dataclass(frozen=True)
class Version:
    """A policy version that does not change: its name, and the digest of what serves under it."""

    name: str
    digest: str

    def __str__(self) -> str:
        return f"{self.name}@{self.digest}"

    def require(self, answered: str) -> None:
        """Checks that an answer came from this version.

        Raises:
            FailedPreconditionError: reason POLICY_CHANGED.
        """
        if answered != str(self):
            raise FailedPreconditionError(
                f"{self.name} was {self.digest[:12]} when this began, and now {answered} answers. Load the old version "
                "again, or begin anew in another work folder.",
                reason="POLICY_CHANGED",
            )


@dataclass(frozen=True)
class Prompting:
    """How a policy is asked."""

    sampling: SamplingParams
    template: PromptTemplate | str | None
    post_processing: PostProcessing | None
    seed: int

    @property
    def key(self) -> dict[str, Any]:
        """All that determines the samples of a context, beside the policy."""
        return {
            "sampling": self.sampling,
            "template": template_key(self.template),
            "post_processing": self.post_processing,
            "seed": self.seed,
        }


def template_key(template: PromptTemplate | str | None) -> str:
    """What a template is told apart by: its content, or the name of a shipped one."""
    return template.digest if isinstance(template, PromptTemplate) else template or ""


async def pinned(client: AsyncServices, policy: str) -> Version:
    """The version that a policy's name or alias means now.

    Raises:
        NotFoundError: reason MODEL_NOT_FOUND.
    """
    found = await client.policies.get(policy)
    return Version(found.name, found.digest)


async def sample(
    client: AsyncServices, version: Version, how: Prompting, stage: Stage, part: Part
) -> dict[str, Record]:
    """The samples of one part: `{"samples": [{"text", "finish_reason", "token_count"}, …]}` by row id.

    Raises:
        FailedPreconditionError: reason POLICY_CHANGED; another version serves under the name meanwhile.
    """
    items = [GenerateItem(row.id, row.context, seed_of(how.seed, row.id)) for row in part.rows]

    def record(result: GenerateResult) -> Record:
        version.require(result.model_version)
        return {
            "samples": [
                {"text": one.text, "finish_reason": one.finish_reason.value, "token_count": one.token_count}
                for one in result.outputs
            ]
        }

    def ask(missing: Sequence[GenerateItem]) -> AsyncIterator[tuple[str, Record]]:
        outcomes = client.batch_generate(
            version.name,
            missing,
            sampling=how.sampling,
            template=how.template,
            post_processing=how.post_processing,
        )
        return answers(outcomes, record)

    return await stage.part(part.index, items, ask)
