"""A step is made once for all that determines it, and an interrupted study goes on where it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ilf_client.experiments.lab import all_steps
from ilf_client.experiments.runner import gathered, plan, run_study
from ilf_client.experiments.study import Arm, Metric, Study
from ilf_common.errors import UnavailableError
from tests.unit.ilf_client.experiments.support import MADE, Base, FakeTask, Measurement, fake_lab


@pytest.fixture(autouse=True)
def nothing_made() -> None:
    MADE.clear()


def study(*steps: Measurement) -> Study:
    arms = [Arm(f"row {index}", step.base.seed, step) for index, step in enumerate(steps)]
    return Study("s", "q", arms, [Metric("m")])


async def test_a_step_is_made_once_after_what_it_needs(tmp_path: Path) -> None:
    first, second = Measurement(Base(1), 0.0), Measurement(Base(1), 5.0)
    await run_study(fake_lab(tmp_path), study(first, second))
    assert MADE == ["base 1", "measure 0.0 on base 1", "measure 5.0 on base 1"]
    await run_study(fake_lab(tmp_path), study(first, second))
    assert len(MADE) == 3


async def test_arms_side_by_side_make_what_they_share_once(tmp_path: Path) -> None:
    steps = [Measurement(Base(1), float(index)) for index in range(5)]
    results = await run_study(fake_lab(tmp_path), study(*steps), parallel=3)
    assert MADE.count("base 1") == 1 and len(MADE) == 6
    assert len(results.measured["m"]) == 5


async def test_the_key_holds_the_step_what_it_needs_the_task_and_the_models(tmp_path: Path) -> None:
    step = Measurement(Base(1), 0.0)
    shelf = fake_lab(tmp_path).shelf
    others = [
        shelf.digest(replace(step, value=1.0)),
        shelf.digest(replace(step, base=Base(2))),
        fake_lab(tmp_path, {"model": "a"}).shelf.digest(step),
        fake_lab(tmp_path, task=FakeTask(key={"rows": 2})).shelf.digest(step),
    ]
    assert shelf.digest(Measurement(Base(1), 0.0)) == shelf.digest(step)
    assert len({shelf.digest(step), *others}) == 5


async def test_a_new_version_of_a_step_makes_what_rests_on_it_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Measurement(Base(1), 0.0)
    await run_study(fake_lab(tmp_path), study(step))
    monkeypatch.setattr(Base, "VERSION", 2)
    await run_study(fake_lab(tmp_path), study(step))
    assert MADE == 2 * ["base 1", "measure 0.0 on base 1"]


async def test_a_study_goes_on_after_its_process_was_stopped(tmp_path: Path) -> None:
    good, away = Measurement(Base(1), 0.0), Measurement(Base(2), 0.0, "service")
    with pytest.raises(UnavailableError):
        await run_study(fake_lab(tmp_path), study(good, away))
    assert MADE == ["base 1", "measure 0.0 on base 1", "base 2"]
    found = gathered(fake_lab(tmp_path).shelf, study(good, away))
    assert [arm.row for arm in found.missing] == ["row 1"]
    await run_study(fake_lab(tmp_path), study(good, Measurement(Base(2), 1.0)))
    assert MADE[3:] == ["measure 1.0 on base 2"]


async def test_a_step_that_was_cut_off_leaves_no_record(tmp_path: Path) -> None:
    lab, step = fake_lab(tmp_path), Measurement(Base(1), 0.0, "service")
    with pytest.raises(UnavailableError):
        await lab.get(step)
    assert lab.folder(step).is_dir() and lab.shelf.find(step) is None


async def test_an_arm_that_cannot_be_leaves_the_others_alone_and_its_reason_behind(tmp_path: Path) -> None:
    results = await run_study(fake_lab(tmp_path), study(Measurement(Base(1), 0.0, "own"), Measurement(Base(1), 3.0)))
    assert list(results.measured["m"]) == ["row 1"]
    assert results.failures == ["row 0, seed 1: This arm cannot be."]
    assert [arm.row for arm in results.missing] == ["row 0"]


async def test_a_plan_names_every_step_once_and_what_is_finished(tmp_path: Path) -> None:
    lab = fake_lab(tmp_path)
    done, open_ = Measurement(Base(1), 0.0), Measurement(Base(1), 1.0)
    await lab.get(done)
    assert plan(lab.shelf, [study(done, open_), study(done)]) == [
        ("Base", "base 1", True),
        ("Measurement", "measure 0.0 on base 1", True),
        ("Measurement", "measure 1.0 on base 1", False),
    ]


def test_steps_come_after_what_they_need() -> None:
    step = Measurement(Base(1), 0.0)
    assert all_steps([step, Base(1)]) == [Base(1), step]
