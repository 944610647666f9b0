"""What is trained: policies on texts of refined contexts, policies by whole runs, reward models."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from enum import Enum
from itertools import combinations

from ilf_client.experiments.lab import Lab, Record, Step
from ilf_client.experiments.refining import Refined, RefinedRow, from_columns, push_lines, push_rows
from ilf_client.experiments.runs import finished_job, finished_run
from ilf_client.models.jobs import FinetuneKind, FinetuneSpec, Hyperparameters, RewardLoss, RewardOptions
from ilf_client.models.specs import DatasetSpec, FeedbackSource, RunSpec
from ilf_common.errors import FailedPreconditionError, NotFoundError


class Target(Enum):
    """What a policy learns to say to a context."""

    REFINEMENT = "refinement"
    RANDOM = "random"
    REFERENCE = "reference"
    INITIAL_OUTPUT = "initial_output"
    FEEDBACK_AND_REFINEMENT = "feedback_and_refinement"

    @property
    def label(self) -> str:
        """Its name in tables."""
        return {
            Target.REFINEMENT: "refinements (ILF)",
            Target.RANDOM: "random refinements",
            Target.REFERENCE: "references",
            Target.INITIAL_OUTPUT: "initial outputs",
            Target.FEEDBACK_AND_REFINEMENT: "feedback + refinement",
        }[self]

    def text(self, refined: RefinedRow) -> str:
        """The text of this target for a context; the last target is two lines (Scheurer et al. 2023, appendix)."""
        return {
            Target.REFINEMENT: refined.best,
            Target.RANDOM: random.Random(refined.row.id).choice(refined.candidates),
            Target.REFERENCE: refined.row.reference,
            Target.INITIAL_OUTPUT: refined.row.initial_output,
            Target.FEEDBACK_AND_REFINEMENT: f"{' '.join(refined.row.feedback.split())}\n{refined.best}",
        }[self]


@dataclass(frozen=True)
class Tuned(Step):
    """The base policy finetuned on one text of each context, by a finetune job.

    Attributes:
        source: Where contexts and refinements come from.
        target: Which text is learnt.
        rows: How many contexts, the first ones of the source.
        seed: Of the training.
    """

    source: Refined
    target: Target
    rows: int
    seed: int

    @property
    def title(self) -> str:
        """For people."""
        return f"finetune on {self.rows} {self.target.label}, seed {self.seed}"

    async def make(self, lab: Lab) -> Record:
        """Runs the job; answers the checkpoint's URI."""
        refined = self.source.read(lab)[: self.rows]
        lines = [
            {"item_id": one.row.id, "context": one.row.context, "completion": self.target.text(one)} for one in refined
        ]
        spec = lab.task.spec()
        job = await finished_job(
            lab,
            self,
            FinetuneSpec(
                kind=FinetuneKind.SFT,
                base_model=spec.base_model or spec.policy,
                dataset_uri=await push_lines(lab, self, "training", lines),
                output_uri=f"experiments/{lab.name(self)}",
                hyperparameters=replace(spec.finetune.hyperparameters, seed=self.seed),
                template=spec.generate.template,
            ),
        )
        return {"uri": job.spec.output_uri, "rows": len(refined)}


@dataclass(frozen=True)
class Looped(Step):
    """A policy after a whole run of the loop.

    Attributes:
        rounds: Iterations; with one, initial outputs and feedback are the dataset's own.
        contexts: New contexts of each.
        seed: Of contexts, samples and training.
        changes: What is changed in the task's run, as `a.b=value`.
    """

    rounds: int
    contexts: int
    seed: int
    changes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """For people."""
        changed = f", {' '.join(self.changes)}" if self.changes else ""
        return f"run {self.rounds} x {self.contexts} contexts{changed}, seed {self.seed}"

    async def make(self, lab: Lab) -> Record:
        """Runs it; answers the last checkpoint's URI."""
        rows = lab.task.rows("train", self.rounds * self.contexts, self.seed)
        spec = lab.task.spec(self.changes)
        spec = from_columns(spec) if self.rounds == 1 else _with_program(spec, lab.feedback_address)
        spec = replace(
            spec,
            dataset=DatasetSpec(train_uri=await push_rows(lab, self, rows)),
            iterations=self.rounds,
            contexts_per_iteration=self.contexts,
            seed=self.seed,
            evaluate=replace(spec.evaluate, disabled=True),
        )
        run = await finished_run(lab, self, spec)
        for iteration in run.iterations[1:]:
            await _unload(lab, iteration.policy)
        return {"uri": run.iterations[-1].checkpoint_uri, "run": run.name}


@dataclass(frozen=True)
class RewardTrained(Step):
    """A reward model trained on the comparisons of training contexts.

    Attributes:
        comparisons: How many.
        seed: Of comparisons and training.
        hyperparameters: How it is trained; the seed apart.
        loss: What its training minimises.
    """

    comparisons: int
    seed: int
    hyperparameters: Hyperparameters
    loss: RewardLoss = RewardLoss.BRADLEY_TERRY

    @property
    def title(self) -> str:
        """For people."""
        return f"train a reward model on {self.comparisons} comparisons, seed {self.seed}"

    async def make(self, lab: Lab) -> Record:
        """Runs the job; answers the reward model's URI."""
        rows = lab.task.rows("train", self.comparisons, self.seed)
        lines = [
            {"prompt": row.context, "chosen": row.chosen, "rejected": row.rejected}
            for row in rows
            if row.chosen != row.rejected
        ]
        return await _trained_reward(lab, self, lines, self.hyperparameters, self.seed, self.loss)


@dataclass(frozen=True)
class SampleRewardTrained(Step):
    """A reward model trained on comparisons of samples: refinements of one context, by what the task holds for better.

    Attributes:
        source: Where contexts and refinements come from.
        comparisons: How many at most, drawn from all pairs that are no tie.
        seed: Of the draw and of the training.
        hyperparameters: How it is trained; the seed apart.
    """

    source: Refined
    comparisons: int
    seed: int
    hyperparameters: Hyperparameters

    @property
    def title(self) -> str:
        """For people."""
        return f"train a reward model on at most {self.comparisons} comparisons of refinements, seed {self.seed}"

    async def make(self, lab: Lab) -> Record:
        """Compares and runs the job; answers the reward model's URI.

        Raises:
            FailedPreconditionError: reason NO_COMPARISONS; no context has a better and a worse refinement.
        """
        pairs = [
            (one.row, first, second)
            for one in self.source.read(lab)
            for first, second in combinations(dict.fromkeys(one.candidates), 2)
        ]
        random.Random(self.seed).shuffle(pairs)
        rows, firsts, seconds = zip(*pairs, strict=True) if pairs else ((), (), ())
        wins = await lab.task.wins(lab.client, rows, firsts, seconds)
        decided = [(pair, win) for pair, win in zip(pairs, wins, strict=True) if win != 0.5][: self.comparisons]
        if not decided:
            raise FailedPreconditionError(
                f"No context has a better and a worse refinement to learn from: {self.source.title}",
                reason="NO_COMPARISONS",
            )
        lines = [
            {
                "prompt": row.context,
                "chosen": first if win > 0.5 else second,
                "rejected": second if win > 0.5 else first,
            }
            for (row, first, second), win in decided
        ]
        return await _trained_reward(lab, self, lines, self.hyperparameters, self.seed)


Reward = RewardTrained | SampleRewardTrained
"""A trained reward model."""

Policy = Tuned | Looped | None
"""A trained policy, or None for the task's own before any training."""


@asynccontextmanager
async def serving(lab: Lab, policy: Policy) -> AsyncIterator[str]:
    """The name under which a policy is served while the block runs."""
    if policy is None:
        yield lab.task.spec().policy
        return
    name = lab.name(policy)
    record = await lab.get(policy)
    async with lab.lock(name):
        await lab.client.policies.load(name, record["uri"], replace=True)
        try:
            yield name
        finally:
            await _unload(lab, name)


@asynccontextmanager
async def rewarding(lab: Lab, reward: Reward) -> AsyncIterator[str]:
    """The name under which a reward model is served while the block runs."""
    name = lab.name(reward)
    record = await lab.get(reward)
    async with lab.lock(name):
        try:
            await lab.client.reward.get(name)
        except NotFoundError:
            await lab.client.reward.load(name, record["uri"])
        try:
            yield name
        finally:
            await lab.client.reward.unload(name)


async def _trained_reward(
    lab: Lab,
    step: Step,
    comparisons: Sequence[Mapping[str, str]],
    hyperparameters: Hyperparameters,
    seed: int,
    loss: RewardLoss = RewardLoss.BRADLEY_TERRY,
) -> Record:
    spec = lab.task.spec()
    job = await finished_job(
        lab,
        step,
        FinetuneSpec(
            kind=FinetuneKind.REWARD_MODEL,
            base_model=spec.base_model or spec.policy,
            dataset_uri=await push_lines(lab, step, "comparisons", comparisons),
            output_uri=f"experiments/{lab.name(step)}",
            hyperparameters=replace(hyperparameters, seed=seed),
            reward=RewardOptions(loss=loss),
        ),
    )
    return {"uri": job.spec.output_uri, "comparisons": len(comparisons)}


def _with_program(spec: RunSpec, address: str) -> RunSpec:
    """The run with the place where the task's feedback program is served now, if it has one."""
    if spec.feedback.source is not FeedbackSource.PLUGIN:
        return spec
    return replace(spec, feedback=replace(spec.feedback, plugin_address=address))


async def _unload(lab: Lab, name: str) -> None:
    with suppress(NotFoundError):
        await lab.client.policies.unload(name)
