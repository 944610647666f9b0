"""What is measured: answers of policies, choices of rankers, refinements, likelihoods; one number an item."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from ilf_client.evaluation.files import seed_of
from ilf_client.experiments.lab import Lab, Record, Step
from ilf_client.experiments.refining import Refined, RefinedBlindly, RefinedRow
from ilf_client.experiments.study import INCORPORATED, NLL, SCORE, WIN_INITIAL, WIN_RANDOM, WIN_REFERENCE
from ilf_client.experiments.training import Looped, Reward, Target, Tuned, rewarding, serving
from ilf_client.files import new_file
from ilf_client.models.evaluation import BestOfNSpec
from ilf_client.models.inference import GenerateItem, RankerSpec, RankItem, SamplingParams, ScoreTextItem
from ilf_client.models.reward import ScoreItem

ENSEMBLE, REWARD, CEILING = "ensemble", "reward_model", "ceiling"


@dataclass(frozen=True)
class Answered(Step):
    """Answers of a policy to contexts that no training has seen, as the task's run samples them when it evaluates.

    Attributes:
        policy: A trained policy; None is the one before any training.
        contexts: How many.
        seed: Of the contexts.
    """

    policy: Tuned | Looped | None
    contexts: int
    seed: int

    @property
    def title(self) -> str:
        """For people."""
        who = self.policy.title if self.policy else "the policy before any training"
        return f"answer {self.contexts} test contexts, seed {self.seed}: {who}"

    async def make(self, lab: Lab) -> Record:
        """Samples and scores them."""
        rows = lab.task.rows("test", self.contexts, self.seed)
        spec = lab.task.spec()
        sampling = replace(spec.evaluate.sampling or SamplingParams(temperature=0.0), n=1)
        speaks_first = isinstance(self.policy, Tuned) and self.policy.target is Target.FEEDBACK_AND_REFINEMENT
        if speaks_first and sampling.max_new_tokens:
            sampling = replace(sampling, max_new_tokens=4 * sampling.max_new_tokens)
        items = [GenerateItem(row.id, row.context, seed_of(self.seed, row.id)) for row in rows]
        async with serving(lab, self.policy) as name:
            outcomes = lab.client.batch_generate(
                name,
                items,
                sampling=sampling,
                template=spec.generate.template,
                post_processing=None if speaks_first else spec.generate.post_processing,
            )
            texts = {outcome.item_id: outcome.unwrap().outputs[0].text async for outcome in outcomes}
        outputs = [texts[row.id] for row in rows]
        if speaks_first:
            outputs = [lab.task.final_answer(output) for output in outputs]
        return {"values": {SCORE.name: await lab.task.scores(lab.client, rows, outputs)}}


@dataclass(frozen=True)
class BestAnswered(Step):
    """The best of N sampled answers of a policy, by a reward model; with N = 1 it is the policy as it samples.

    Attributes:
        policy: A trained policy; None is the one before any training.
        reward: What the choice goes by.
        n: Samples a context.
        contexts: How many test contexts.
        seed: Of contexts and samples.
    """

    policy: Tuned | Looped | None
    reward: Reward
    n: int
    contexts: int
    seed: int

    @property
    def title(self) -> str:
        """For people."""
        who = self.policy.title if self.policy else "the policy before any training"
        return f"best of {self.n} for {self.contexts} test contexts, seed {self.seed}: {who}"

    async def make(self, lab: Lab) -> Record:
        """Samples, scores and chooses."""
        rows = lab.task.rows("test", self.contexts, self.seed)
        dataset = lab.folder(self) / "contexts.jsonl"
        with new_file(dataset) as stream:
            stream.writelines(json.dumps({"id": row.id, "context": row.context}) + "\n" for row in rows)
        generate = lab.task.spec().generate
        async with serving(lab, self.policy) as name, rewarding(lab, self.reward) as reward:
            result = await lab.client.evaluation.best_of_n(
                BestOfNSpec(
                    dataset=str(dataset),
                    policy=name,
                    n=self.n,
                    sampling=replace(generate.sampling or SamplingParams(), n=None, seed=None),
                    template=generate.template,
                    post_processing=generate.post_processing,
                    seed=self.seed,
                    reward_models=[reward],
                ),
                lab.folder(self) / "work",
            )
        with Path(result.chosen).open(encoding="utf-8") as stream:
            chosen = {line["id"]: line["output"] for line in map(json.loads, stream)}
        outputs = [chosen[row.id] for row in rows]
        return {"values": {SCORE.name: await lab.task.scores(lab.client, rows, outputs)}}


@dataclass(frozen=True)
class Chosen(Step):
    """The refinement that a ranker chooses, against a random one of the same context.

    Attributes:
        source: The refinements, ranked by the ensemble.
        ranker: "ensemble", the name of one of its judges, "reward_model", another ranker of the ranking service, or
            "ceiling": by the task's score itself, which no ranker can do better than.
        reward: The reward model, for "reward_model".
    """

    source: Refined
    ranker: str
    reward: Reward | None = None

    @property
    def title(self) -> str:
        """For people."""
        return f"choose by {self.ranker}: {self.source.title}"

    async def make(self, lab: Lab) -> Record:
        """Ranks where the run has not yet, and compares with the mean over all candidates."""
        refined = self.source.read(lab)
        chosen = [max(range(len(scores)), key=scores.__getitem__) for scores in await self._scores(lab, refined)]
        rows = [one.row for one in refined for _ in one.candidates]
        picked = [one.candidates[index] for one, index in zip(refined, chosen, strict=True) for _ in one.candidates]
        rivals = [text for one in refined for text in one.candidates]
        won = iter(await lab.task.wins(lab.client, rows, picked, rivals))
        wins = [_mean([next(won) for _ in one.candidates]) for one in refined]
        best = [one.candidates[index] for one, index in zip(refined, chosen, strict=True)]
        right = await lab.task.scores(lab.client, [one.row for one in refined], best)
        return {"values": {WIN_RANDOM.name: wins, SCORE.name: right}}

    async def _scores(self, lab: Lab, refined: Sequence[RefinedRow]) -> list[Sequence[float]]:
        if self.ranker == ENSEMBLE:
            return [one.scores for one in refined]
        if refined and self.ranker in refined[0].judges:
            return [one.judges[self.ranker] for one in refined]
        if self.ranker == CEILING:
            return await _own_scores(lab, refined)
        if self.reward is not None:
            return await _rewards(lab, self.reward, refined)
        items = [
            RankItem(one.row.id, one.row.context, one.row.initial_output, one.row.feedback, one.candidates)
            for one in refined
        ]
        outcomes = lab.client.batch_rank(items, ranker=RankerSpec(name=self.ranker, seed=self.source.seed))
        found = {outcome.item_id: [score.score for score in outcome.unwrap().scores] async for outcome in outcomes}
        return [found[one.row.id] for one in refined]


class Choice(Enum):
    """Which text of a refined context."""

    BEST = "best"
    RANDOM = "random"
    BLIND = "blind"
    REFERENCE = "reference"

    @property
    def label(self) -> str:
        """Its name in tables."""
        return {
            Choice.BEST: "with feedback, best of N",
            Choice.RANDOM: "with feedback, a random one",
            Choice.BLIND: "without feedback",
            Choice.REFERENCE: "reference",
        }[self]


@dataclass(frozen=True)
class Quality(Step):
    """Refinements against initial outputs and references, and how often they do what the feedback asks for.

    Attributes:
        source: The refinements.
        choice: Which of them.
        blind: Refinements of the same contexts without feedback, for BLIND.
    """

    source: Refined
    choice: Choice
    blind: RefinedBlindly | None = None

    @property
    def title(self) -> str:
        """For people."""
        return f"compare {self.choice.label}: {self.source.title}"

    async def make(self, lab: Lab) -> Record:
        """Compares them."""
        refined = self.source.read(lab)
        rows = [one.row for one in refined]
        texts = await self._texts(lab, refined)
        task, client = lab.task, lab.client
        return {
            "values": {
                WIN_INITIAL.name: await task.wins(client, rows, texts, [row.initial_output for row in rows]),
                WIN_REFERENCE.name: await task.wins(client, rows, texts, [row.reference for row in rows]),
                INCORPORATED.name: await task.incorporated(client, rows, texts),
            }
        }

    async def _texts(self, lab: Lab, refined: Sequence[RefinedRow]) -> list[str]:
        if self.choice is Choice.BEST:
            return [one.best for one in refined]
        if self.choice is Choice.REFERENCE:
            return [one.row.reference for one in refined]
        if self.choice is Choice.RANDOM:
            return [random.Random(f"{self.source.seed}/{one.row.id}").choice(one.candidates) for one in refined]
        assert self.blind is not None
        texts = (await lab.get(self.blind))["texts"]
        return [texts[one.row.id] for one in refined]


@dataclass(frozen=True)
class Likelihood(Step):
    """Negative log-likelihood of held-out texts of the kind that a policy was finetuned on, in nats a token.

    Attributes:
        policy: The finetuned policy.
        held_out: Refined contexts that it has not seen.
    """

    policy: Tuned
    held_out: Refined

    @property
    def title(self) -> str:
        """For people."""
        return f"likelihood of held-out {self.policy.target.label}: {self.policy.title}"

    async def make(self, lab: Lab) -> Record:
        """Scores the texts."""
        refined = self.held_out.read(lab)
        items = [ScoreTextItem(one.row.id, one.row.context, self.policy.target.text(one)) for one in refined]
        async with serving(lab, self.policy) as name:
            outcomes = lab.client.batch_score_text(name, items, template=lab.task.spec().generate.template)
            scores = {outcome.item_id: outcome.unwrap() async for outcome in outcomes}
        return {
            "values": {NLL.name: [-scores[item.item_id].logprob / scores[item.item_id].token_count for item in items]}
        }


async def _own_scores(lab: Lab, refined: Sequence[RefinedRow]) -> list[Sequence[float]]:
    rows = [one.row for one in refined for _ in one.candidates]
    found = iter(await lab.task.scores(lab.client, rows, [text for one in refined for text in one.candidates]))
    return [[next(found) for _ in one.candidates] for one in refined]


async def _rewards(lab: Lab, reward: Reward, refined: Sequence[RefinedRow]) -> list[Sequence[float]]:
    items = [
        ScoreItem(f"{number}/{index}", one.row.context, text)
        for number, one in enumerate(refined)
        for index, text in enumerate(one.candidates)
    ]
    async with rewarding(lab, reward) as name:
        found = {
            outcome.item_id: outcome.unwrap().reward async for outcome in lab.client.reward.batch_score(name, items)
        }
    return [[found[f"{number}/{index}"] for index in range(len(one.candidates))] for number, one in enumerate(refined)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
