"""From comparisons to a served model: what training measured, the service measures too."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ilf_common.rewards.kinds import RewardLoss
from ilf_common.rewards.report import RewardReport
from ilf_common.rewards.transformers_model import TransformersRewardLoader
from services.reward.adapters.artifact_checkpoints import ArtifactCheckpoints
from services.reward.adapters.artifact_comparisons import ArtifactComparisons
from services.reward.adapters.json_memory import JsonMemory
from services.reward.models import EvaluateCall, Limits
from services.reward.service import RewardService, Surroundings
from services.reward.shelf import ModelShelf
from tests.fakes.reward import FakeWorld
from tests.integration.finetune.conftest import Workshop
from tests.integration.finetune.test_reward_losses import job_of
from tests.integration.finetune.test_reward_model import comparisons
from tests.tiny_models import build_tiny_model

pytestmark = pytest.mark.engine


async def measured(workshop: Workshop, names: Sequence[str], dataset: str) -> RewardReport:
    """The report of models that are served from where they were published."""
    around = FakeWorld()
    with ThreadPoolExecutor(max_workers=1) as executor:
        models = ModelShelf(
            ArtifactCheckpoints(workshop.store),
            TransformersRewardLoader(device="cpu", threads=1),
            JsonMemory(workshop.folder / "models.json"),
            lambda: datetime.now(UTC),
            executor,
            Limits(batch_tokens=300, max_batch_size=5),
        )
        await models.start()
        service = RewardService(models, Surroundings(ArtifactComparisons(workshop.store), around, around))
        try:
            for name in names:
                await models.load("", name, f"out/{name}")
            return await service.evaluate(EvaluateCall(tuple(names), dataset, "topic"))
        finally:
            await models.stop()


async def test_the_service_measures_what_training_measured_for_every_loss_and_for_all_together(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path, build_tiny_model(tmp_path / "base"))
    rows = [{**row, "topic": "ab"[number % 2]} for number, row in enumerate(comparisons(60))]
    dataset = workshop.write_rows("pairs", rows)
    options = {"held_out_share": 0.25, "slice_column": "topic"}
    for loss in RewardLoss:
        result = workshop.run(
            job_of(loss, workshop, loss.value, dataset, options=options, epochs=6, learning_rate=5e-3)
        )
        assert result.reason is None, result.message
        # The service is given all rows, and leaves out those that were trained on.
        report = await measured(workshop, [loss.value], dataset)
        assert (report.pairs, report.dropped) == (15, {"context_trained_on": 45})
        assert report.accuracy.value == result.metrics["held_out_accuracy"]
        assert report.margins.mean == pytest.approx(result.metrics["held_out_margin"], abs=1e-3)
        assert report.temperature == result.metrics["temperature"]
        assert sum(part.pairs for part in report.slices) == 15
    together = await measured(workshop, [loss.value for loss in RewardLoss], dataset)
    assert together.pairs == 15 and together.accuracy.value > 0.5
