"""feedback: what is to be changed in each initial output, by a column, a program, a critic model, or people."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from ilf_common.errors import IlfError, InvalidArgumentError
from services.orchestrator.calls import Item, SamplingCall
from services.orchestrator.codec import digest_of
from services.orchestrator.models import FeedbackSource, FeedbackStage
from services.orchestrator.rows import INPUT, Row
from services.orchestrator.run import Usage
from services.orchestrator.seeds import item_seed
from services.orchestrator.shards import StageKey
from services.orchestrator.stages.people import ask_people, people_answers
from services.orchestrator.stages.sampling import no_text, only_text
from services.orchestrator.waiting import calls_of
from services.orchestrator.work import Made, Maker, RunWork, template_digest

STAGE = "feedback"
_OUTER = string.punctuation + string.whitespace
MAX_FEEDBACK = 200_000


async def give_feedback(work: RunWork, iteration: int, rows: int) -> None:
    """Takes all shards of an iteration through the stage."""
    stage = work.spec.feedback
    key = await _key(work, stage)
    if stage.source is FeedbackSource.PEOPLE:
        await ask_people(work, iteration, rows, key)

    async def one_shard(index: int) -> None:
        before = await work.load(iteration, index, (INPUT, "generate"))
        await work.advance(before, key, work.shard(iteration, STAGE, index), _maker(work, iteration, index))

    await work.over_shards(iteration, (STAGE,), rows, one_shard)


async def _key(work: RunWork, stage: FeedbackStage) -> StageKey:
    # Where a plugin listens and how long a lease lasts do not change what the feedback is.
    config = replace(stage, plugin_address="", lease=None, template=None, critic="")
    parts = {"source": stage.source.value, "config": digest_of(config)}
    if stage.source is FeedbackSource.CRITIC:
        parts["model"] = await work.pinned_digest("critic", stage.critic)
        parts["template"] = template_digest(stage.template)
        parts["seed"] = str(work.spec.seed)
    return StageKey(STAGE, parts)


def _maker(work: RunWork, iteration: int, index: int) -> Maker:
    stage = work.spec.feedback

    async def from_column(rows: Sequence[Row]) -> Made:
        return Made(_with_feedback(rows, stage, lambda row: row.feedback or ""))

    async def from_plugin(rows: Sequence[Row]) -> Made:
        items = [Item(row.item_id, row.context, output=row.initial_output or "") for row in rows if not row.failure]
        texts: dict[str, str] = {}
        for part in calls_of(items):
            given = await work.patiently(
                "plugin",
                partial(work.peers.plugin.give_feedback, stage.plugin_address, part),
            )
            texts.update({item.item_id: text for item, text in zip(part, given, strict=True)})
        return Made(_with_feedback(rows, stage, lambda row: texts[row.item_id]))

    async def from_critic(rows: Sequence[Row]) -> Made:
        return await _ask_critic(work, iteration, rows)

    async def from_people(rows: Sequence[Row]) -> Made:
        answers = await people_answers(work, iteration, index)
        return Made(
            _with_feedback(rows, stage, lambda row: together(answers.get(row.item_id, []), stage.nothing_to_change))
        )

    return {
        FeedbackSource.COLUMN: from_column,
        FeedbackSource.PLUGIN: from_plugin,
        FeedbackSource.CRITIC: from_critic,
        FeedbackSource.PEOPLE: from_people,
    }[stage.source]


async def _ask_critic(work: RunWork, iteration: int, rows: Sequence[Row]) -> Made:
    stage = work.spec.feedback
    call = SamplingCall(stage.critic, stage.sampling, stage.template, None)
    items = [
        Item(
            row.item_id,
            row.context,
            row.initial_output or "",
            seed=item_seed(work.spec.seed, iteration, STAGE, row.item_id),
        )
        for row in rows
        if row.failure is None
    ]
    found = await work.outcomes("refinement", STAGE, items, lambda part: work.peers.refinement.generate(call, part))
    usage = Usage()
    for outcome in found.values():
        usage += outcome.result.usage if outcome.result else Usage()

    def text_of(row: Row) -> str | IlfError:
        outcome = found[row.item_id]
        text = only_text(outcome.result)
        return (outcome.error or no_text()) if text is None else text

    return Made(_with_feedback(rows, stage, text_of), usage)


def _with_feedback(rows: Sequence[Row], stage: FeedbackStage, text_of: Callable[[Row], str | IlfError]) -> list[Row]:
    made = []
    for row in rows:
        if row.failure is None:
            text = text_of(row)
            error = text if isinstance(text, IlfError) else _problem(text)
            row = (
                row.failed(STAGE, error)
                if error
                else replace(
                    row, feedback=str(text), nothing_to_change=says_nothing(str(text), stage.nothing_to_change)
                )
            )
        made.append(row)
    return made


def _problem(text: str) -> InvalidArgumentError | None:
    if not text.strip():
        return InvalidArgumentError.of("feedback", "is empty")
    if len(text) > MAX_FEEDBACK:
        return InvalidArgumentError.of("feedback", f"has {len(text)} characters; at most {MAX_FEEDBACK} are allowed")
    return None


def together(texts: Sequence[str], phrases: Sequence[str]) -> str:
    """What several people say, a paragraph each; who wants no change counts only where nobody wants one."""
    wishes = [text for text in texts if not says_nothing(text, phrases)]
    return "\n".join(wishes or texts[:1])


def says_nothing(text: str, phrases: Sequence[str]) -> bool:
    """Whether a feedback text is one of the phrases for "nothing to change", without case and outer punctuation."""
    return _bare(text) in {_bare(phrase) for phrase in phrases}


def _bare(text: str) -> str:
    return " ".join(text.casefold().strip(_OUTER).split())
