from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from services.finetune.trainer.checkpoints import MOST_LOSSES, Tally, drop_incomplete, last_complete, mark_complete


def _write(folder: Path, step: int, tally: Tally | None) -> None:
    (folder / f"checkpoint-{step}").mkdir(parents=True)
    (folder / f"checkpoint-{step}" / "model.safetensors").write_bytes(b"x")
    if tally is not None:
        mark_complete(folder, step, tally)


def test_only_complete_checkpoints_count(tmp_path: Path) -> None:
    _write(tmp_path, 20, Tally(20, 41.5, 1.5))
    _write(tmp_path, 100, None)
    _write(tmp_path, 9, Tally(9))
    found = last_complete(tmp_path)
    assert found is not None
    assert (found.step, found.tally) == (20, Tally(20, 41.5, 1.5))


def test_half_written_ones_are_dropped(tmp_path: Path) -> None:
    _write(tmp_path, 20, Tally())
    _write(tmp_path, 30, None)
    (tmp_path / "checkpoint-notes").mkdir()
    drop_incomplete(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-20", "checkpoint-notes"]


def test_nothing_there_is_no_checkpoint(tmp_path: Path) -> None:
    drop_incomplete(tmp_path / "none")
    assert last_complete(tmp_path / "none") is None


def test_a_tally_adds_up() -> None:
    tally = Tally()
    tally.add(2.0, right=3, compared=4)
    tally.add(1.0, right=4, compared=4)
    assert tally.metrics() == {"train_loss": 1.5, "final_loss": 1.0, "train_accuracy": 7 / 8}
    assert tally.losses == [(1, 2.0), (2, 1.0)]
    assert Tally().metrics() == {"train_loss": 0.0, "final_loss": 0.0}


@given(st.integers(1, 1000))
def test_a_curve_of_losses_stays_small_even_and_complete(steps: int) -> None:
    tally = Tally()
    for step in range(1, steps + 1):
        tally.add(float(step), right=0, compared=0)
    shown = [step for step, _ in tally.losses]
    assert len(shown) <= MOST_LOSSES and all(loss == step for step, loss in tally.losses)
    assert shown == list(range(tally.stride, steps + 1, tally.stride))


def test_a_curve_goes_on_after_a_resume(tmp_path: Path) -> None:
    tally = Tally()
    for step in range(250):
        tally.add(float(step), right=0, compared=0)
    _write(tmp_path, 250, tally)
    found = last_complete(tmp_path)
    assert found is not None
    found.tally.add(1.0, right=0, compared=0)
    found.tally.add(2.0, right=0, compared=0)
    assert (found.tally.losses[-1], found.tally.stride) == ((252, 2.0), 4)
