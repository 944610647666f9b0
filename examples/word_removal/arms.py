"""The arms of the demo: imitation learning from language feedback, and what it has to be better than."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from pathlib import Path

from ilf_client.config import build, read_yaml
from ilf_client.models.inference import RankerSpec
from ilf_client.models.specs import DatasetSpec, FinetuneTarget, RunSpec

FOLDER = Path(__file__).resolve().parent


class Arm(Enum):
    """What an arm finetunes on; the value is its name in tables."""

    ILF = "refinements chosen by the judges (ILF)"
    RANDOM = "refinements chosen at random"
    INITIAL = "initial outputs"

    @property
    def slug(self) -> str:
        """The arm's part of a run's id."""
        return self.name.lower()


def arm_spec(arm: Arm, datasets: DatasetSpec, *, feedback_address: str, score_address: str, seed: int) -> RunSpec:
    """What the run of an arm is told; the arms differ in one thing each and see the same contexts.

    Args:
        arm: Which arm.
        datasets: Train and test contexts in the artifact store.
        feedback_address: Where the program is served that writes the feedback.
        score_address: Where the exact metric is served.
        seed: Seed of the run.
    """
    spec = build(RunSpec, read_yaml(FOLDER / "run.yaml"), folder=FOLDER)
    spec = replace(
        spec,
        dataset=datasets,
        seed=seed,
        feedback=replace(spec.feedback, plugin_address=feedback_address),
        evaluate=replace(spec.evaluate, plugin_address=score_address),
    )
    if arm is Arm.RANDOM:
        return replace(spec, rank=replace(spec.rank, ranker=RankerSpec(name="random", seed=seed)))
    if arm is Arm.INITIAL:
        return replace(
            spec,
            rank=replace(spec.rank, ranker=RankerSpec(name="random", seed=seed)),
            finetune=replace(spec.finetune, target=FinetuneTarget.INITIAL_OUTPUT),
        )
    return spec
