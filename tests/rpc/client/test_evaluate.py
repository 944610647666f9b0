"""`ilf eval`: every measure against values computed by hand, the evaluator check, resumption, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from ilf.finetune.v1 import finetune_service_pb2 as finetune
from ilf.orchestrator.v1 import orchestrator_service_pb2 as orchestrator
from ilf.ranking.v1 import ranking_service_pb2 as ranking

from ilf_client import (
    Arm,
    AsyncClient,
    BestOfNSpec,
    Divergence,
    EvaluationResult,
    EvaluationSpec,
    Evaluator,
    Figure,
    JudgeSpec,
    Pairing,
    PromptTemplate,
    RankerSpec,
)
from ilf_client.cli.main import main
from ilf_common.errors import InternalError, InvalidArgumentError, NotFoundError
from tests.fakes.evaluated_services import EvaluatedServices

ROWS = 100
REFERENCE = "word word word"
BASE, TUNED, PEOPLE = Arm("base", policy="base"), Arm("tuned", policy="tuned"), Arm("people", column="reference")

Run = Callable[..., Any]


@pytest.fixture
def services() -> EvaluatedServices:
    return EvaluatedServices()


@pytest.fixture
def spec(tmp_path: Path) -> EvaluationSpec:
    rows = [
        {
            "id": f"r{k}",
            "context": f"context {k}",
            "initial_output": "x",
            "feedback": "longer" if k % 2 else None,
            "reference": REFERENCE,
            "short": "word",
        }
        for k in range(ROWS)
    ]
    dataset = tmp_path / "test.jsonl"
    dataset.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return EvaluationSpec(dataset=str(dataset), arms=(BASE, TUNED))


@pytest.fixture
def run(client: AsyncClient, tmp_path: Path) -> Run:
    def call(spec: EvaluationSpec, **more: Any) -> Any:
        return client.evaluation.evaluate(spec, tmp_path / "work", **more)

    return call


def figure(result: EvaluationResult, measure: str, arm: str, rival: str = "") -> Figure:
    (found,) = [one for one in result.figures if (one.measure, one.arm, one.rival) == (measure, arm, rival)]
    return found


def outputs(folder: Path, digest: str) -> list[str]:
    found = {}
    for stage in folder.glob("answers-*"):
        if f"@{digest * 64}" in (stage / "KEY.json").read_text():
            for path in stage.glob("part-*"):
                found.update((record["id"], record["samples"][0]["text"]) for record in map(json.loads, path.open()))
    return [found[f"r{k}"] for k in range(ROWS)]


async def test_win_rates_count_ties_half_and_know_their_error(run: Run, spec: EvaluationSpec, tmp_path: Path) -> None:
    result = await run(replace(spec, evaluators=(Evaluator("judges", judges=(JudgeSpec("j", "stranger"),)),)))
    base, tuned = outputs(tmp_path / "work", "0"), outputs(tmp_path / "work", "1")
    wins = [0.5 * (1 + np.sign(len(one) - len(other))) for one, other in zip(base, tuned, strict=True)]
    found = figure(result, "win_rate", "base", "tuned")
    assert found.estimate.value == pytest.approx(float(np.mean(wins)))
    assert found.estimate.standard_error == pytest.approx(float(np.std(wins, ddof=1) / np.sqrt(ROWS)))
    assert (found.estimate.n, found.null, found.self_judged) == (ROWS, 0.5, "")
    assert found.smallest_detectable_effect == pytest.approx(2.8016 * found.estimate.standard_error, rel=1e-4)
    controlled = figure(result, "win_rate_length_controlled", "base", "tuned")
    assert abs(controlled.estimate.value - 0.5) < abs(found.estimate.value - 0.5)
    assert figure(result, "position_bias", "base", "tuned").estimate.value == 0


async def test_equal_outputs_tie_without_being_asked_about(
    run: Run, spec: EvaluationSpec, services: EvaluatedServices
) -> None:
    arms = (PEOPLE, Arm("again", column="reference"))
    result = await run(replace(spec, arms=arms, evaluators=(Evaluator("rm", reward_models=("rm",)),)))
    assert figure(result, "win_rate", "people", "again").estimate.value == 0.5
    assert not services.calls["BatchCompare"]


async def test_rows_with_the_same_context_are_one_observation(run: Run, spec: EvaluationSpec) -> None:
    rows = [{"id": f"r{k}", "context": f"context {k // 4}", "reference": "x" * (1 + k % 7)} for k in range(40)]
    Path(spec.dataset).write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = figure(await run(replace(spec, arms=(PEOPLE,))), "length", "people")
    assert found.estimate.n == 10


async def test_lengths_overlap_and_metrics_are_means_and_paired_differences(
    run: Run, spec: EvaluationSpec, tmp_path: Path
) -> None:
    pytest.importorskip("rapidfuzz")
    metrics = {"words": lambda context, output: len(output.split())}
    result = await run(replace(spec, arms=(BASE, TUNED, PEOPLE), rouge=True), metrics=metrics)
    base, tuned = outputs(tmp_path / "work", "0"), outputs(tmp_path / "work", "1")
    words = np.array([[len(text.split()) for text in texts] for texts in (base, tuned)], dtype=float)
    assert figure(result, "words", "base").estimate.value == pytest.approx(words[0].mean())
    gap = figure(result, "words", "base", "tuned").estimate
    assert gap.value == pytest.approx((words[0] - words[1]).mean())
    assert gap.standard_error == pytest.approx((words[0] - words[1]).std(ddof=1) / np.sqrt(ROWS))
    overlap = 2 * np.minimum(words[0], 3) / (words[0] + 3)
    assert figure(result, "rouge_l", "base").estimate.value == pytest.approx(overlap.mean())
    assert figure(result, "rouge_l", "people").estimate.value == 1
    assert figure(result, "length", "people").estimate.value == len(REFERENCE)


async def test_likelihood_of_any_column_and_both_divergences(run: Run, spec: EvaluationSpec, tmp_path: Path) -> None:
    measured = replace(
        spec,
        arms=(TUNED,),
        nll_columns=("reference", "short"),
        divergence=Divergence("base", samples=3, max_new_tokens=8),
        template=PromptTemplate("p", "{context}", target_prefix=" "),
    )
    result = await run(measured)
    assert figure(result, "nll reference", "tuned").estimate.value == pytest.approx(3 * 3 + 0.5)
    assert figure(result, "nll per token reference", "tuned").estimate.value == pytest.approx(9.5 / 4)
    assert figure(result, "nll short", "tuned").estimate.value == pytest.approx(3.5)
    words: dict[str, list[int]] = {}
    for stage in (tmp_path / "work").glob("kl-samples-*"):
        side = "base" if "base@" in (stage / "KEY.json").read_text() else "tuned"
        records = [json.loads(line) for path in stage.glob("part-*") for line in path.open()]
        words[side] = [len(one["text"].split()) for record in records for one in record["samples"]]
    # A word costs the policy one nat more than the base, whoever wrote it.
    assert figure(result, "kl forward", "tuned").estimate.value == pytest.approx(np.mean(words["base"]))
    assert figure(result, "kl reverse", "tuned").estimate.value == pytest.approx(-np.mean(words["tuned"]))


async def test_divergence_samples_are_drawn_and_scored_as_they_are(
    run: Run, spec: EvaluationSpec, services: EvaluatedServices
) -> None:
    await run(replace(spec, arms=(TUNED,), divergence=Divergence("base", samples=2, max_new_tokens=8)))
    drawn = [request for request in services.calls["BatchGenerate"] if request.sampling.n == 2]
    assert {(one.sampling.temperature, one.sampling.top_p, one.sampling.max_new_tokens) for one in drawn} == {(1, 1, 8)}
    assert not any(one.HasField("post_processing") for one in drawn)
    cut = [item.unfinished for request in services.calls["BatchScoreText"] for item in request.items]
    assert sum(cut) == len(cut) / 2  # every second sample of the fake ends by its length


async def test_the_divergence_wants_the_whole_template(run: Run, spec: EvaluationSpec) -> None:
    with pytest.raises(InvalidArgumentError, match="only named"):
        await run(replace(spec, template="summarize", divergence=Divergence("base")))


async def test_incorporated_feedback_is_measured_where_there_is_feedback(
    run: Run, spec: EvaluationSpec, services: EvaluatedServices
) -> None:
    result = await run(replace(spec, incorporated=RankerSpec("instruct_rm")))
    found = figure(result, "incorporated", "base").estimate
    assert (found.value, found.n) == (1.0, ROWS // 2)
    assert figure(result, "incorporated_probability", "base", "tuned").estimate.value < 0


async def test_files_and_pools_are_arms(run: Run, spec: EvaluationSpec, client: AsyncClient, tmp_path: Path) -> None:
    lines = [json.dumps({"id": f"r{k}", "output": "w" * k}) for k in reversed(range(1, 90))]
    (tmp_path / "outputs.jsonl").write_text("\n".join(lines))
    best = BestOfNSpec(dataset=spec.dataset, policy="base", n=3, ranker=RankerSpec("length"))
    await client.evaluation.best_of_n(best, tmp_path / "pool")
    arms = (Arm("file", file=str(tmp_path / "outputs.jsonl")), Arm("best", pool=str(tmp_path / "pool")))
    result = await run(replace(spec, arms=arms))
    assert figure(result, "length", "file").estimate.n == 89
    assert figure(result, "length", "file", "best").estimate.n == 89
    assert result.dropped == {"file: no output": ROWS - 89}
    assert result.arms["best"].startswith("best of 3 of base@")


async def test_an_evaluator_that_ranked_for_an_arm_is_self_judged(
    run: Run, spec: EvaluationSpec, services: EvaluatedServices, client: AsyncClient, tmp_path: Path
) -> None:
    services.policies["toy/it-1"] = "2" * 64
    services.run = orchestrator.Run(
        name="runs/toy",
        spec=orchestrator.RunSpec(
            rank=orchestrator.RankStage(
                ranker=ranking.RankerSpec(name="instruct_rm", judges=[ranking.JudgeSpec(name="mine", model="own")])
            )
        ),
    )
    for name, digest, dataset in (("rm", "rm", "pairs-1"), ("twin", "twin", "pairs-1"), ("other", "other", "pairs-2")):
        services.jobs[name] = finetune.FinetuneJob(
            name=f"jobs/{name}", spec=finetune.FinetuneSpec(dataset_uri=dataset), checkpoint_digest=digest
        )
    best = BestOfNSpec(dataset=spec.dataset, policy="base", n=2, reward_models=("rm",))
    await client.evaluation.best_of_n(best, tmp_path / "pool")
    arms = (Arm("run", policy="toy/it-1"), Arm("best", pool=str(tmp_path / "pool")), PEOPLE)
    evaluators = (
        Evaluator("same judge", judges=(JudgeSpec("j", "own"),)),
        Evaluator("other judge", judges=(JudgeSpec("j", "stranger"),)),
        Evaluator("any judge"),
        Evaluator("same reward model", reward_models=("rm",)),
        Evaluator("same pairs", reward_models=("twin",)),
        Evaluator("other pairs", reward_models=("other",)),
    )
    services.judge_models = ["own"]
    result = await run(replace(spec, arms=arms, evaluators=evaluators))
    self_judged = {
        (one.evaluator, one.arm, one.rival): one.self_judged for one in result.figures if one.measure == "win_rate"
    }
    flagged = {names for names, why in self_judged.items() if why}
    assert flagged == {
        *((judge, "run", rival) for judge in ("same judge", "any judge") for rival in ("best", "people")),
        *(
            (model, *pair)
            for model in ("same reward model", "same pairs")
            for pair in (("run", "best"), ("best", "people"))
        ),
    }
    assert "shares the model judge own with what ranked for run" in self_judged["same judge", "run", "people"]
    assert "training on pairs-1" in self_judged["same pairs", "best", "people"]


@pytest.mark.parametrize(("ranked_by", "self_judged"), [("rm", True), ("unrelated", False), ("gone", True)])
async def test_a_run_that_was_ranked_by_a_reward_model_is_known_by_it(
    run: Run, spec: EvaluationSpec, services: EvaluatedServices, ranked_by: str, self_judged: bool
) -> None:
    services.policies["toy/it-1"] = "2" * 64
    rank = orchestrator.RankStage(ranker=ranking.RankerSpec(name="reward_model"), reward_models=[ranked_by])
    services.run = orchestrator.Run(name="runs/toy", spec=orchestrator.RunSpec(rank=rank))
    evaluators = (Evaluator("rm", reward_models=("rm",)),)
    result = await run(replace(spec, arms=(BASE, Arm("run", policy="toy/it-1")), evaluators=evaluators))
    assert bool(figure(result, "win_rate", "base", "run").self_judged) is self_judged


async def test_what_a_user_says_of_an_arms_rankers_counts(run: Run, spec: EvaluationSpec) -> None:
    arms = (replace(BASE, rankers=("rm",)), TUNED)
    result = await run(replace(spec, arms=arms, evaluators=(Evaluator("rm", reward_models=("rm",)),)))
    assert figure(result, "win_rate", "base", "tuned").self_judged


@pytest.mark.parametrize("rpc", ["BatchGenerate", "BatchCompare", "BatchScoreText"])
async def test_after_a_fault_only_what_is_missing_is_asked_for(
    run: Run, spec: EvaluationSpec, services: EvaluatedServices, rpc: str
) -> None:
    evaluators = (Evaluator("rm", reward_models=("rm",)),)
    one_part = replace(spec, limit=50, evaluators=evaluators, nll_columns=("reference",))
    whole = await run(one_part)
    again = replace(one_part, seed=1)
    services.break_after[rpc] = (30, InternalError("boom"))
    if rpc != "BatchScoreText":  # the likelihood of the references does not follow from the seed
        with pytest.raises(InternalError):
            await run(again)
        services.calls.clear()
        await run(again)
        assert len(services.calls[rpc][0].items) <= 20
    services.calls.clear()
    assert await run(one_part) == whole
    assert not {"BatchGenerate", "BatchCompare", "BatchScoreText"} & {
        name for name, calls in services.calls.items() if calls
    }


async def test_values_of_single_rows_are_kept_for_comparisons(run: Run, spec: EvaluationSpec) -> None:
    result = await run(spec)
    rows = [json.loads(line) for line in Path(result.items).read_text().splitlines()]
    assert [row["id"] for row in rows] == [f"r{k}" for k in range(ROWS)]
    lengths = [row["values"]["length/base"] for row in rows]
    assert np.mean(lengths) == pytest.approx(figure(result, "length", "base").estimate.value)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"arms": ()}, "arms"),
        ({"arms": (Arm("a"),)}, "arms[0]"),
        ({"arms": (Arm("a", policy="base", column="reference"),)}, "arms[0]"),
        ({"arms": (BASE, BASE)}, "arms[0].name"),
        ({"pairings": (Pairing("base", "nobody"),)}, "pairings[0].rival"),
        ({"pairings": (Pairing("base", "base"),)}, "pairings[0]"),
        ({"nll_columns": ("nonsense",)}, "dataset"),
    ],
)
async def test_a_spec_that_cannot_work_is_refused_before_any_work(
    run: Run, spec: EvaluationSpec, services: EvaluatedServices, change: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await run(replace(spec, **change))
    assert caught.value.violations[0].field == field
    assert not services.generated


async def test_broken_and_missing_files_are_refused(run: Run, spec: EvaluationSpec, tmp_path: Path) -> None:
    (tmp_path / "broken.jsonl").write_text('{"id": "r1", "output": "a"}\n{"id": "r2"}\n')
    with pytest.raises(InvalidArgumentError, match="line 2"):
        await run(replace(spec, arms=(Arm("a", file=str(tmp_path / "broken.jsonl")),)))
    (tmp_path / "twice.jsonl").write_text('{"id": "r1", "output": "a"}\n' * 2)
    with pytest.raises(InvalidArgumentError, match="twice"):
        await run(replace(spec, arms=(Arm("a", file=str(tmp_path / "twice.jsonl")),)))
    for arm in (Arm("a", file="nowhere"), Arm("a", pool=str(tmp_path)), Arm("a", policy="nobody")):
        with pytest.raises(NotFoundError):
            await run(replace(spec, arms=(arm,)))


def test_the_command_writes_table_and_plot_without_what_is_self_judged(
    server_address: str, spec: EvaluationSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ILF_SERVER", server_address)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "task.py").write_text("def exact(context, output):\n    return len(output) > 20\n")
    config = tmp_path / "eval.yaml"
    config.write_text(
        "dataset: test.jsonl\n"
        "arms:\n"
        "  - {name: base, policy: base, rankers: [rm]}\n"
        "  - {name: tuned, policy: tuned}\n"
        "evaluators:\n"
        "  - {name: rm, reward_models: [rm]}\n"
        "  - {name: other, reward_models: [another]}\n"
        "metrics: ['task:exact']\n"
    )
    found = CliRunner().invoke(main, ["eval", str(config)])
    assert found.exit_code == 0, found.output
    assert "self-judged, not in the table: win_rate of base against tuned" in found.output
    table = (tmp_path / "eval.work" / "table.md").read_text()
    assert "| win_rate | base | tuned | other |" in table
    assert "| rm |" not in table
    assert "| exact | base |" in table
    assert "<svg" in (tmp_path / "eval.work" / "differences.svg").read_text()
    result = json.loads((tmp_path / "eval.work" / "result.json").read_text())
    assert {one["evaluator"] for one in result["figures"] if one["self_judged"]} == {"rm"}
    as_json = CliRunner().invoke(main, ["eval", str(config), "-o", "json"])
    assert json.loads(as_json.output)["rows"] == ROWS
