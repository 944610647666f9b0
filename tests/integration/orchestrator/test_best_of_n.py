"""Best-of-N as a part of a run's evaluation, over stand-in services that answer by rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
from ilf.orchestrator.v1 import orchestrator_service_pb2 as pb

from tests.fakes.peers import hash_of
from tests.integration.orchestrator.support import rows, scene, small_spec, write_rows

N = 4


def best_of(n: int, *models: str, **more: Any) -> dict[str, Any]:
    return {"best_of_n": {"n": n, "reward_models": list(models)}, **more}


def evaluated(folder: Path, iteration: int) -> list[dict[str, Any]]:
    (file,) = (folder / "store").glob(f"runs/*/it-{iteration}/evaluate/part-00000.parquet")
    found: list[dict[str, Any]] = parquet.read_table(file).to_pylist()
    return found


async def test_every_policy_is_measured_with_the_best_of_its_samples(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        evaluate = best_of(N, "one", plugin_address=here.peers_address)
        run = await here.end(await here.create(small_spec(here, evaluate=evaluate)))
        assert run.state == pb.RUN_STATE_SUCCEEDED, run.error
        for iteration in (0, 1):
            metrics = run.iterations[iteration].metrics
            assert metrics["best_of_n_reward"].n == metrics["best_of_n_exact_match"].n == 10
            for row in evaluated(tmp_path, iteration):
                start, _, seed = row["best_output"].rpartition(" ")
                rewards = [hash_of(f"{start} {(int(seed) + step) % 1000}") % 1000 for step in (-3, -2, -1, 0, 1, 2, 3)]
                # Four samples in a row hold the chosen one, wherever they begin.
                assert row["best_reward"] == rewards[3] / 1000
                assert any(max(rewards[k : k + N]) == rewards[3] for k in range(N))
                assert row["best_exact_match"] is not None


async def test_a_context_whose_samples_cannot_be_scored_is_a_bad_row(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        data = rows("test", 40)
        data[3]["context"] += " POISON-rank"
        spec = small_spec(here, evaluate=best_of(N, "one"))
        spec["dataset"]["test_uri"] = write_rows(here.folder, "poisoned.jsonl", data)
        run = await here.end(await here.create(spec))
        assert run.state == pb.RUN_STATE_SUCCEEDED, run.error
        assert run.iterations[1].metrics["best_of_n_reward"].n == 39
        (stage,) = [one for one in run.iterations[1].stages if one.stage == "evaluate"]
        assert stage.bad_rows == 1


async def test_without_it_the_reward_service_is_not_asked(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        here.peers.down.add("reward")
        run = await here.end(await here.create(small_spec(here)))
        assert run.state == pb.RUN_STATE_SUCCEEDED, run.error
        assert "best_of_n_reward" not in run.iterations[1].metrics
