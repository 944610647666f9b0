"""The studies are declared whole at every size, share what they can, and say what is missing."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from examples.experiments.program import bench, family
from examples.experiments.sizes import SIZES, Size
from examples.experiments.slf5k import Slf5k
from examples.experiments.studies import STUDIES, nll_scaling
from examples.experiments.word_removal import WordRemoval
from examples.experiments.word_table import EXACT, word_removal
from ilf_client.cli.main import main
from ilf_client.experiments.lab import Step, all_steps
from ilf_client.experiments.study import NLL
from ilf_client.experiments.task import Task
from ilf_client.experiments.training import Reward, RewardTrained, SampleRewardTrained, Tuned
from ilf_common.errors import InvalidArgumentError

SUMMARIES = Path(__file__).parents[4] / "examples" / "summarization"


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("name", STUDIES)
def test_a_study_declares_every_row_for_every_seed(name: str, size: Any) -> None:
    study = STUDIES[name](WordRemoval(), size)
    rows = {arm.row for arm in study.arms}
    assert study.name == name and study.question.endswith(("?", "."))
    assert len({(arm.row, arm.seed) for arm in study.arms}) == len(study.arms) == len(rows) * size.seeds
    assert set(study.against) | set(study.against.values()) <= rows
    assert all(row != other for row, other in study.against.items())
    assert set(study.paper) <= {metric.name for metric in study.metrics}
    assert all(set(figures) & rows for figures in study.paper.values())


def test_claims_have_three_seeds() -> None:
    assert SIZES["small"].seeds >= 3 and SIZES["paper"].seeds >= 3


def test_studies_share_their_trainings() -> None:
    size = SIZES["small"]
    studies = [STUDIES[name](WordRemoval(), size) for name in ("targets", "nll-scaling", "combined")]
    alone = [{step for step in all_steps([arm.step for arm in one.arms]) if isinstance(step, Tuned)} for one in studies]
    assert alone[1] < alone[0] and alone[2] < alone[0]


def test_a_reward_model_that_answers_are_chosen_by_learns_on_samples_of_training_contexts() -> None:
    task, size = WordRemoval(), SIZES["small"]
    rewards = {step for step in steps_of("combined", task, size) if isinstance(step, Reward)}
    assert rewards < set(steps_of("rankers", task, size))
    pools = {one.source for one in steps_of("targets", task, size) if isinstance(one, Tuned)}
    assert {one.source for one in rewards if isinstance(one, SampleRewardTrained)} == pools and len(rewards) == 3
    assert all(pool.part == "train" for pool in pools)


def test_comparisons_that_are_of_samples_already_are_taken_from_the_data() -> None:
    task = Slf5k(SUMMARIES / "data", SUMMARIES / "run.yaml")
    rewards = {type(one) for one in steps_of("combined", task, SIZES["smoke"]) if isinstance(one, Reward)}
    assert rewards == {RewardTrained}
    assert not any("own samples" in arm.row for arm in STUDIES["rankers"](task, SIZES["smoke"]).arms)


def steps_of(name: str, task: Task, size: Size) -> list[Step]:
    return all_steps([arm.step for arm in STUDIES[name](task, size).arms])


def test_the_slope_is_that_of_the_points() -> None:
    size = SIZES["small"]
    study = nll_scaling(WordRemoval(), size)
    falling = {
        arm.row: {seed: [2.0 * int(arm.row.rpartition(" ")[2]) ** -0.25] for seed in range(3)} for arm in study.arms
    }
    assert study.notes is not None
    said = study.notes({NLL.name: falling})
    assert len(said) == 3
    assert all("to the power -0.250 ± 0.000 (9 points" in line for line in said)
    assert all("too few points" in line for line in study.notes({}))


def test_the_word_table_is_about_the_sizes_that_are_made(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "s"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("card")
    (folder / "model.safetensors").write_bytes(b"weights")
    study = word_removal(WordRemoval(family(tmp_path)), SIZES["smoke"])
    assert [arm.row for arm in study.arms] == ["s model", "m model"]
    (folder / "model.safetensors").write_bytes(b"others")
    other = word_removal(WordRemoval(family(tmp_path)), SIZES["smoke"])
    assert study.arms[0].step != other.arms[0].step and study.arms[1].step == other.arms[1].step


def test_the_word_table_names_its_cells_and_what_is_not_made() -> None:
    size = SIZES["smoke"]
    study = word_removal(WordRemoval(), size)
    right = [float(index % 2 == 0) for index in range(27 * size.cell_prompts)]
    assert study.notes is not None
    (cells, papers, unmade) = study.notes({EXACT.name: {"m model": {0: right}}})
    assert "2 prompts a cell: 1/1 50, 2/1 50, 2/2 50" in cells and cells.count("/") - 1 == 27
    assert "GPT-3 Davinci 38.5 ± 1.3 %" in papers
    assert unmade == "not made: xs, s; `ilf experiment models` trains what is missing"


def test_a_model_counts_as_made_once_its_card_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "xs"
    folder.mkdir(parents=True)
    assert list(family(tmp_path)) == ["m"]
    (folder / "README.md").write_text("card")
    assert family(tmp_path)["xs"] == folder


def test_models_that_are_made_are_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "xs").mkdir(parents=True)
    (tmp_path / "models" / "xs" / "README.md").write_text("card")
    trained: list[Sequence[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: trained.append(command))
    result = ilf("models", "--folder", str(tmp_path), "--seed", "3")
    assert result.exit_code == 0, result.output
    (command,) = trained
    assert command[1:] == [
        *("-m", "examples.word_removal.make_model", "--size", "s", "--seed", "3", "--threads", "1"),
        *("--output", str(tmp_path / "models" / "s")),
    ]
    assert "xs: made already" in result.output


def ilf(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["experiment", *arguments])


def test_a_plan_needs_no_services(tmp_path: Path) -> None:
    result = ilf("run", "--all", "--plan", "--size", "small", "--folder", str(tmp_path), "-o", "json")
    assert result.exit_code == 0, result.output
    steps = json.loads(result.output)
    assert {step["kind"] for step in steps} >= {"Graded", "Refined", "Tuned", "Looped", "RewardTrained", "BestAnswered"}
    assert not any(step["finished"] for step in steps)


def test_the_published_files_run_as_the_same_studies(tmp_path: Path) -> None:
    options = ["--task", "slf5k", "--data", str(SUMMARIES / "data"), "--config", str(SUMMARIES / "run.yaml")]
    result = ilf(
        "run", "--all", "--plan", "--size", "smoke", "--folder", str(tmp_path), *options, "--set", "policy=mine"
    )
    assert result.exit_code == 0, result.output
    assert "finetune on 16 references, seed 0" in result.output and "grade the" not in result.output


def test_a_report_of_nothing_says_what_is_missing(tmp_path: Path) -> None:
    result = ilf("report", "beta", "--folder", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert "15 of 15 arms have no result yet" in result.output
    assert (tmp_path / "word-removal" / "small" / "beta.md").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "name studies, or say --all"),
        (["run", "beta", "--all"], "name studies, or say --all"),
        (["run", "betta"], "did you mean 'beta'?"),
        (["run", "beta", "--task", "slf5k"], "--config are wanted"),
        (["run", "beta", "--set", "a=b"], "belong to --task slf5k"),
    ],
)
def test_wrong_words_are_refused_before_any_work(arguments: list[str], said: str, tmp_path: Path) -> None:
    result = ilf(*arguments, "--folder", str(tmp_path))
    assert result.exit_code == 2 and said in result.output
    assert not list(tmp_path.iterdir())


def test_the_word_table_is_about_one_task() -> None:
    options = {"data": SUMMARIES / "data", "config": SUMMARIES / "run.yaml"}
    with pytest.raises(InvalidArgumentError, match="is about the task word-removal"):
        bench("slf5k", "smoke", Path(), **options).studies(["word-removal"])
