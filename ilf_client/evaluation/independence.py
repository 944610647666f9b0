"""Whether an evaluator is independent of what it judges: it shares no weights and no training pairs with the rankers.

An evaluator that has already chosen the outputs of an arm, or what its policy was trained on, prefers that arm because
it made it. What cannot be told apart is taken for shared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ilf_client.evaluation.arms import pool_result
from ilf_client.models.evaluation import Arm, Evaluator
from ilf_client.models.inference import JudgeSpec, RankerSpec
from ilf_common.errors import NotFoundError

if TYPE_CHECKING:
    from ilf_client.aio.services import AsyncServices

_JUDGES = "instruct_rm"
_REWARD_MODEL = "reward_model"
_GONE = "reward model that is no longer served"
_VERSION = "/it-"


@dataclass(frozen=True)
class Identity:
    """What a scorer is made of.

    Attributes:
        weights: Its models, as people know them.
        pairs: The datasets that they were trained on.
    """

    weights: frozenset[str] = frozenset()
    pairs: frozenset[str] = frozenset()

    def __or__(self, other: Identity) -> Identity:
        return Identity(self.weights | other.weights, self.pairs | other.pairs)


def shared(evaluator: Identity, ranker: Identity) -> str:
    """What two scorers have in common; empty where they have nothing."""
    for what, common in (
        ("the model", evaluator.weights & ranker.weights),
        ("training on", evaluator.pairs & ranker.pairs),
    ):
        if common:
            return f"{what} {', '.join(sorted(common))}"
    return ""


@dataclass
class Registrar:
    """Finds out what scorers are made of.

    Args:
        client: The services that serve and trained them.
    """

    client: AsyncServices
    _judge_models: frozenset[str] | None = None
    _pairs: dict[str, str] | None = None

    async def evaluator(self, evaluator: Evaluator) -> Identity:
        """An evaluator's identity."""
        if evaluator.reward_models:
            return await self.reward_models(evaluator.reward_models) | Identity(frozenset([_GONE]))
        return await self._judges(evaluator.judges)

    async def arm(self, arm: Arm, label: str) -> Identity:
        """The identity of all that ranked for an arm.

        Args:
            arm: The arm.
            label: Of its source: a policy's version.
        """
        found = await self._named(arm.rankers)
        if arm.policy:
            return found | await self._run_of(label)
        if arm.pool:
            result = pool_result(arm)
            spec = result["spec"]
            found |= await self._once_served(spec["reward_models"])
            if spec["ranker"] is not None:
                judges = [JudgeSpec(judge["name"], judge["model"]) for judge in spec["ranker"]["judges"]]
                found |= await self._ranker(RankerSpec(spec["ranker"]["name"], judges))
            found |= await self._run_of(result["policy"])
        return found

    async def reward_models(self, names: Iterable[str]) -> Identity:
        """The identity of served reward models: their weights, and the datasets that their jobs were given."""
        weights, pairs = set(), set()
        for name in names:
            model = await self.client.reward.get(name)
            weights.add(f"reward model {model.digest[:12] or name}")
            trained_on = (await self._trained_on()).get(model.digest)
            if trained_on:
                pairs.add(trained_on)
        return Identity(frozenset(weights), frozenset(pairs))

    async def _run_of(self, version: str) -> Identity:
        """The ranker of the run that made a version; a model that no run made has none."""
        run_id, found, _ = version.partition(_VERSION)
        if not found:
            return Identity()
        try:
            run = await self.client.runs.get(run_id)
        except NotFoundError:
            return Identity()
        if run.spec.rank.ranker.name == _REWARD_MODEL:
            return await self._once_served(run.spec.rank.reward_models)
        return await self._ranker(run.spec.rank.ranker)

    async def _once_served(self, names: Sequence[str]) -> Identity:
        """Reward models that ranked some time ago; one that is gone may be any that is served under another name."""
        try:
            return await self.reward_models(names)
        except NotFoundError:
            return Identity(frozenset([_GONE]))

    async def _ranker(self, ranker: RankerSpec) -> Identity:
        if ranker.name in (_JUDGES, ""):
            return await self._judges(ranker.judges)
        return Identity(frozenset([f"ranker {ranker.name}"]))

    async def _judges(self, judges: Sequence[JudgeSpec]) -> Identity:
        """Judges that name no model may use any of the server's."""
        if judges and all(judge.model for judge in judges):
            models = frozenset(judge.model for judge in judges)
        else:
            models = await self._served_judge_models() | {judge.model for judge in judges if judge.model}
        return Identity(frozenset(f"judge {model}" for model in models))

    async def _named(self, names: Sequence[str]) -> Identity:
        """Rankers that a user names: reward models that are served, and judge models otherwise."""
        found = Identity()
        for name in names:
            try:
                found |= await self.reward_models([name])
            except NotFoundError:
                found |= Identity(frozenset([f"judge {name}"]))
        return found

    async def _served_judge_models(self) -> frozenset[str]:
        if self._judge_models is None:
            rankers = [ranker async for ranker in self.client.rankers()]
            named = {judge.model for ranker in rankers for judge in ranker.judges if judge.model}
            self._judge_models = frozenset(named or {"of the server"})
        return self._judge_models

    async def _trained_on(self) -> dict[str, str]:
        """The datasets of finetune jobs by the digests of the checkpoints that they published."""
        if self._pairs is None:
            jobs = [job async for job in self.client.jobs.list()]
            self._pairs = {job.checkpoint_digest: job.spec.dataset_uri for job in jobs if job.checkpoint_digest}
        return self._pairs
