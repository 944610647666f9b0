"""The copy of a work directory in the store, by several nodes, each with its own disk."""

from __future__ import annotations

from pathlib import Path

from ilf_common.artifacts import ArtifactStore
from services.finetune.models import Progress
from services.finetune.trainer.checkpoints import CHECKPOINTS, Tally, last_complete, mark_complete
from services.finetune.trainer.mirror import WorkMirror
from services.finetune.trainer.outcome import TrainerResult, read_progress, read_result, write_progress, write_result


def mirror(tmp_path: Path, node: int = 0, *, attempt: int = 1, nodes: int = 2) -> tuple[WorkMirror, Path]:
    work = tmp_path / f"attempt-{attempt}" / f"node-{node}"
    work.mkdir(parents=True, exist_ok=True)
    return WorkMirror(ArtifactStore(str(tmp_path / "store")), "finetune/ft-1", work, node=node, nodes=nodes), work


def checkpoint(work: Path, step: int, *names: str) -> None:
    folder = work / CHECKPOINTS / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text(f"{name} of {step}")
    mark_complete(work / CHECKPOINTS, step, Tally(steps=step))


def test_every_node_gets_all_parts_of_the_newest_whole_checkpoint(tmp_path: Path) -> None:
    (first, first_work), (second, second_work) = mirror(tmp_path, 0), mirror(tmp_path, 1)
    for step in (10, 20):
        checkpoint(first_work, step, "model.safetensors", "rng_state_0.pth")
    checkpoint(second_work, 10, "rng_state_1.pth")
    write_progress(first_work, Progress(step=21, max_steps=30))
    first.finish()
    second.finish()
    for node in (0, 1):
        restored, work = mirror(tmp_path, node, attempt=2)
        restored.restore()
        # Node 1 has not sent its part of step 20.
        found = last_complete(work / CHECKPOINTS)
        assert found is not None and (found.step, found.tally.steps) == (10, 10)
        assert {path.name for path in found.path.iterdir()} >= {
            "model.safetensors",
            "rng_state_0.pth",
            "rng_state_1.pth",
        }
        assert (found.path / "rng_state_1.pth").read_text() == "rng_state_1.pth of 10"
        assert read_progress(work).step == 21


def test_old_checkpoints_go_from_the_store_and_all_of_them_at_the_end(tmp_path: Path) -> None:
    sent, work = mirror(tmp_path, nodes=1)
    for step in (10, 20, 30):
        checkpoint(work, step, "model.safetensors")
    sent.finish()
    store = ArtifactStore(str(tmp_path / "store"))

    def steps() -> set[str]:
        return {key.split("/")[3] for key in store.list_files(f"finetune/ft-1/{CHECKPOINTS}")}

    assert steps() == {"checkpoint-20", "checkpoint-30"}
    write_result(work, TrainerResult(checkpoint_digest="d1"))
    sent.finish()
    assert steps() == set()
    again, fresh = mirror(tmp_path, nodes=1, attempt=2)
    again.restore()
    assert read_result(fresh) == TrainerResult(checkpoint_digest="d1")


def test_nothing_to_restore_is_well(tmp_path: Path) -> None:
    restored, work = mirror(tmp_path)
    restored.restore()
    assert last_complete(work / CHECKPOINTS) is None
    restored.send()
    restored.finish()
