"""Log-probabilities of texts under policies: of given targets, and of samples for the divergence from a base."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ilf_client.evaluation.parts import Record, Stage, answers, failure_of
from ilf_client.evaluation.rows import Part
from ilf_client.evaluation.sampling import Prompting, Version, sample, template_key
from ilf_client.models.evaluation import Divergence
from ilf_client.models.inference import FinishReason, SamplingParams, ScoreTextItem, TextScore
from ilf_common.errors import InvalidArgumentError
from ilf_common.templates import PromptTemplate

if TYPE_CHECKING:
    from ilf_client.aio.services import AsyncServices

Template = PromptTemplate | str | None


class Likelihoods:
    """Log-probabilities under one policy version, `{"logprob", "token_count"}` in nats by item, or an error."""

    def __init__(self, client: AsyncServices, version: Version, template: Template, folder: Path, name: str) -> None:
        self._client = client
        self._version = version
        self._template = template
        self._stage = Stage(folder, name, {"policy": str(version), "template": template_key(template)})

    async def of(self, index: int, items: Sequence[ScoreTextItem]) -> dict[str, Record]:
        """The log-probabilities of one part's texts."""
        return await self._stage.part(index, items, self._ask)

    def _ask(self, items: Sequence[ScoreTextItem]) -> AsyncIterator[tuple[str, Record]]:
        def record(score: TextScore) -> Record:
            self._version.require(score.model_version)
            if not math.isfinite(score.logprob):
                return {"error": "LOGPROB_NOT_FINITE", "message": f"the log-probability is {score.logprob}"}
            return {"logprob": score.logprob, "token_count": score.token_count}

        return answers(self._client.batch_score_text(self._version.name, items, template=self._template), record)


@dataclass(frozen=True)
class Gap:
    """The mean over a row's samples of log p(sampler) - log p(other), or why there is none."""

    nats: float = 0.0
    failure: str = ""


class Divergences:
    """Forward and reverse KL of a policy and its base, row by row.

    Forward is KL(base ‖ policy) and takes the base's samples, reverse is KL(policy ‖ base) and takes the policy's. They
    are drawn at temperature 1 and top-p 1 and scored as they were drawn: no stop strings, no cleaning, and without an
    end where `max_new_tokens` cut them. The token sequence that is scored is the tokenizer's own of the text; where
    that is another one than was drawn, both models are asked about the same other one.

    Args:
        client: The services.
        policy: One side.
        base: The other.
        spec: How many samples, and how long.
        template: The policies' prompt; it is given whole, for a shipped one may have a target prefix that would be put
            in front of samples that were drawn without it.
        seed: Of the samples.
        folder: Where answers lie.

    Raises:
        InvalidArgumentError: The template is named only.
    """

    def __init__(
        self,
        client: AsyncServices,
        policy: Version,
        base: Version,
        spec: Divergence,
        template: Template,
        seed: int,
        folder: Path,
    ) -> None:
        sampling = SamplingParams(n=spec.samples, temperature=1.0, top_p=1.0, max_new_tokens=spec.max_new_tokens)
        plain = plain_template(template)
        how = Prompting(sampling, plain, None, seed)
        self._client = client
        self._how = how
        self._versions = {"policy": policy, "base": base}
        self._samples = {
            side: Stage(folder, "kl-samples", {"policy": str(version), **how.key})
            for side, version in self._versions.items()
        }
        self._scores = {
            (sampler, scorer): Likelihoods(
                client, self._versions[scorer], plain, folder / f"of-{sampled.digest[:16]}", "kl"
            )
            for sampler, sampled in self._versions.items()
            for scorer in self._versions
        }

    async def forward(self, part: Part) -> dict[str, Gap]:
        """Mean log base - log policy over the base's samples, by row."""
        return await self._gaps("base", "policy", part)

    async def reverse(self, part: Part) -> dict[str, Gap]:
        """Mean log policy - log base over the policy's samples, by row."""
        return await self._gaps("policy", "base", part)

    async def _gaps(self, sampler: str, other: str, part: Part) -> dict[str, Gap]:
        drawn = await sample(self._client, self._versions[sampler], self._how, self._samples[sampler], part)
        items = [
            ScoreTextItem(f"{row.id}/{k}", row.context, one["text"], one["finish_reason"] == FinishReason.LENGTH.value)
            for row in part.rows
            for k, one in enumerate(drawn[row.id].get("samples", ()))
        ]
        own = await self._scores[sampler, sampler].of(part.index, items)
        others = await self._scores[sampler, other].of(part.index, items)
        return {row.id: _gap(row.id, drawn[row.id], own, others) for row in part.rows}


def plain_template(template: Template) -> PromptTemplate | None:
    """The prompt without a target prefix; None is the bare context.

    Raises:
        InvalidArgumentError: It is named only.
    """
    if isinstance(template, str):
        raise InvalidArgumentError.of(
            "template", f"{template!r} is only named; the divergence needs the template itself: a file, or its text"
        )
    return None if template is None else replace(template, target_prefix="")


def _gap(row_id: str, drawn: Record, own: dict[str, Record], others: dict[str, Record]) -> Gap:
    if "error" in drawn:
        return Gap(failure=failure_of(drawn))
    gaps = []
    for k in range(len(drawn["samples"])):
        first, second = own[f"{row_id}/{k}"], others[f"{row_id}/{k}"]
        for record in (first, second):
            if "error" in record:
                return Gap(failure=failure_of(record))
        gaps.append(first["logprob"] - second["logprob"])
    return Gap(sum(gaps) / len(gaps))
