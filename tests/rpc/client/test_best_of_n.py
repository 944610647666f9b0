"""Best-of-N over a dataset: the choice, the curve, what is refused, and that nothing is drawn twice."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from ilf_client import AsyncClient, BestOfNResult, BestOfNSpec, PostProcessing, RankerSpec, SamplingParams
from ilf_client.cli.main import main
from ilf_common.errors import FailedPreconditionError, InternalError, InvalidArgumentError, NotFoundError
from tests.fakes.evaluated_services import EvaluatedServices

ROWS = 150  # three parts


@pytest.fixture
def services() -> EvaluatedServices:
    return EvaluatedServices()


@pytest.fixture
def spec(tmp_path: Path) -> BestOfNSpec:
    rows = [{"id": f"r{k}", "context": f"context {k}", "feedback": "longer"} for k in range(ROWS)]
    dataset = tmp_path / "test.jsonl"
    dataset.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return BestOfNSpec(dataset=str(dataset), policy="base", n=4, ranker=RankerSpec("length"))


Run = Callable[[BestOfNSpec], Any]


@pytest.fixture
def run(client: AsyncClient, tmp_path: Path) -> Run:
    def call(spec: BestOfNSpec, **more: Any) -> Any:
        return client.evaluation.best_of_n(spec, tmp_path / "work", **more)

    return call


def chosen(result: BestOfNResult) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(result.chosen).read_text().splitlines()]


def samples(folder: Path) -> dict[str, list[str]]:
    records = [json.loads(line) for path in sorted(folder.glob("samples-*/part-*")) for line in path.open()]
    return {record["id"]: [one["text"] for one in record["samples"]] for record in records}


async def test_the_best_of_each_context_is_kept_in_the_datasets_order(
    run: Run, spec: BestOfNSpec, tmp_path: Path
) -> None:
    result = await run(spec)
    rows = chosen(result)
    pool = samples(tmp_path / "work")
    assert [row["id"] for row in rows] == [f"r{k}" for k in range(ROWS)]
    assert all(row["output"] == max(pool[row["id"]], key=len) for row in rows)
    assert all(pool[row["id"]][row["index"]] == row["output"] for row in rows)
    assert (result.items, result.n, result.dropped) == (ROWS, 4, {})
    assert result.policy.startswith("base@")
    assert json.loads((tmp_path / "work" / "result.json").read_text())["curve"][3]["estimate"]["n"] == ROWS


async def test_the_curve_is_that_of_all_subsets(run: Run, spec: BestOfNSpec, tmp_path: Path) -> None:
    result = await run(spec)
    pool = samples(tmp_path / "work")
    for point in result.curve:
        single = [
            np.mean([max(map(len, subset)) for subset in itertools.combinations(texts, point.k)])
            for texts in pool.values()
        ]
        assert point.estimate.value == pytest.approx(float(np.mean(single)))
        assert point.estimate.standard_error == pytest.approx(float(np.std(single, ddof=1) / np.sqrt(ROWS)))
    assert [point.k for point in result.curve] == [1, 2, 3, 4]


async def test_one_sample_is_the_policy_as_it_is(run: Run, spec: BestOfNSpec) -> None:
    result = await run(replace(spec, n=1))
    assert [row["index"] for row in chosen(result)] == [0] * ROWS
    assert [(point.k, point.kl_bound) for point in result.curve] == [(1, 0.0)]


async def test_fewer_samples_and_other_scorers_use_the_pool_that_is_there(
    run: Run, spec: BestOfNSpec, services: EvaluatedServices, tmp_path: Path
) -> None:
    await run(spec)
    result = await run(replace(spec, n=2, ranker=RankerSpec("random")))
    assert set(services.generated.values()) == {1}
    assert len(result.curve) == 2
    pool = samples(tmp_path / "work")
    assert all(row["output"] in pool[row["id"]] for row in chosen(result))


async def test_more_samples_than_the_pool_has_are_refused_with_both_numbers(run: Run, spec: BestOfNSpec) -> None:
    await run(spec)
    with pytest.raises(FailedPreconditionError, match=r"n is 9.*a pool of 4 samples") as caught:
        await run(replace(spec, n=9))
    assert caught.value.reason == "POOL_TOO_SMALL"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "seed"),
        ({"policy": "tuned"}, "policy"),
        ({"sampling": SamplingParams(temperature=0.5)}, "sampling"),
        ({"template": "summarize"}, "template"),
    ],
)
async def test_a_pool_of_other_samples_is_refused_and_what_differs_is_named(
    run: Run, spec: BestOfNSpec, change: dict[str, Any], named: str
) -> None:
    await run(spec)
    with pytest.raises(FailedPreconditionError, match=f"another {named}") as caught:
        await run(replace(spec, **change))
    assert caught.value.reason == "POOL_MISMATCH"


@pytest.mark.parametrize("rpc", ["BatchGenerate", "BatchRank"])
async def test_after_a_fault_only_what_is_missing_is_asked_for(
    run: Run, spec: BestOfNSpec, services: EvaluatedServices, rpc: str
) -> None:
    one_part = replace(spec, limit=60)
    services.break_after[rpc] = (40, InternalError("boom"))
    with pytest.raises(InternalError):
        await run(one_part)
    services.calls.clear()
    result = await run(one_part)
    assert result.items == 60
    assert set(services.generated.values()) == {1}
    assert [len(request.items) for request in services.calls[rpc]] == [20]


async def test_an_answer_that_was_cut_off_is_asked_for_again_alone(
    run: Run, spec: BestOfNSpec, services: EvaluatedServices, tmp_path: Path
) -> None:
    first = chosen(await run(spec))
    (part,) = (tmp_path / "work").glob("samples-*/part-00001-*.jsonl")
    lines = part.read_text().splitlines(keepends=True)
    part.with_suffix(".journal").write_text("".join(lines[:10]) + lines[10][:25])
    part.unlink()
    services.generated.clear()
    assert chosen(await run(spec)) == first
    assert len(services.generated) == 64 - 10


async def test_what_cannot_be_generated_or_read_is_left_out_and_counted(
    run: Run, spec: BestOfNSpec, services: EvaluatedServices
) -> None:
    services.too_long = {"r3", "r70"}
    with Path(spec.dataset).open("a") as stream:
        stream.write('{"id": "bad", "context": ""}\nnonsense\n')
    result = await run(spec)
    assert result.items == ROWS - 2
    assert result.dropped == {"PROMPT_TOO_LONG": 2, "context: is empty": 1, "is not valid JSON": 1}


async def test_a_nan_score_is_refused_with_its_item(run: Run, spec: BestOfNSpec, services: EvaluatedServices) -> None:
    services.nan_for = {"r5"}
    with pytest.raises(FailedPreconditionError, match="Sample 1 of item 'r5' has the reward nan") as caught:
        await run(spec)
    assert caught.value.reason == "REWARD_NOT_FINITE"


async def test_a_reward_model_scores_equal_samples_once(
    run: Run, spec: BestOfNSpec, services: EvaluatedServices, tmp_path: Path
) -> None:
    result = await run(replace(spec, ranker=None, reward_models=("rm",)))
    pool = samples(tmp_path / "work")
    assert all(row["score"] == max(map(len, pool[row["id"]])) for row in chosen(result))
    assert sum(len(request.items) for request in services.calls["BatchScore"]) == sum(
        len(set(t)) for t in pool.values()
    )


async def test_several_scorers_count_alike_whatever_their_scales(run: Run, spec: BestOfNSpec, tmp_path: Path) -> None:
    result = await run(replace(spec, reward_models=("rm", "compares")))
    assert [scale.scorer for scale in result.scorers] == ["rm", "compares", "length"]
    pool = samples(tmp_path / "work")
    lengths = np.array([[len(text) for text in texts] for texts in pool.values()], dtype=float)
    wins = np.array([[np.mean([_beats(a, b) for b in _without(row, k)]) for k, a in enumerate(row)] for row in lengths])
    standardised = [(table - table.mean()) / table.std() for table in (lengths, wins, lengths)]
    wanted = np.mean(standardised, axis=0).max(axis=1)
    assert [row["score"] for row in chosen(result)] == pytest.approx(list(wanted))


def _beats(a: float, b: float) -> float:
    return float(1 / (1 + np.exp(-(a - b) / 5)))


def _without(row: Any, index: int) -> list[float]:
    return [value for k, value in enumerate(row) if k != index]


async def test_models_that_only_compare_take_sixteen_samples_at_most(run: Run, spec: BestOfNSpec) -> None:
    with pytest.raises(InvalidArgumentError, match="at most 16"):
        await run(replace(spec, n=17, ranker=None, reward_models=("compares",)))
    alone = await run(replace(spec, n=1, ranker=None, reward_models=("compares",)))
    assert {row["score"] for row in chosen(alone)} == {0.5}


async def test_a_policy_that_changes_on_the_way_is_noticed(
    run: Run, spec: BestOfNSpec, services: EvaluatedServices
) -> None:
    services.replaced_by = "9" * 64
    with pytest.raises(FailedPreconditionError, match="now base@999") as caught:
        await run(spec)
    assert caught.value.reason == "POLICY_CHANGED"


async def test_metrics_are_measured_on_what_the_score_chooses(run: Run, spec: BestOfNSpec, tmp_path: Path) -> None:
    result = await run(spec, metrics={"shortness": lambda context, output: -len(output)})
    longest = [-max(map(len, texts)) for texts in samples(tmp_path / "work").values()]
    assert result.metric_curves["shortness"][-1].estimate.value == pytest.approx(float(np.mean(longest)))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"n": 0}, "n"),
        ({"n": 1025}, "n"),
        ({"ranker": None}, "reward_models"),
        ({"sampling": SamplingParams(n=3)}, "sampling.n"),
        ({"post_processing": PostProcessing(resample_budget=9)}, "post_processing.resample_budget"),
        ({"metrics": ("nonsense",)}, "MODULE:FUNCTION"),
    ],
)
async def test_a_spec_that_cannot_work_is_refused_before_any_work(
    run: Run, spec: BestOfNSpec, services: EvaluatedServices, change: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await run(replace(spec, **change))
    assert caught.value.violations[0].field == field
    assert not services.generated


async def test_an_unknown_policy_or_dataset_is_not_found(run: Run, spec: BestOfNSpec) -> None:
    with pytest.raises(NotFoundError):
        await run(replace(spec, policy="nobody"))
    with pytest.raises(NotFoundError, match="nowhere"):
        await run(replace(spec, dataset="nowhere.jsonl"))


def test_the_command_writes_and_shows_the_curve(
    server_address: str, spec: BestOfNSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ILF_SERVER", server_address)
    config = tmp_path / "best.yaml"
    config.write_text("dataset: test.jsonl\npolicy: base\nn: 4\nranker: length\n")
    found = CliRunner().invoke(main, ["best-of-n", str(config), "--set", "n=3", "-o", "json"])
    assert found.exit_code == 0, found.output
    assert json.loads(found.output)["n"] == 3
    again = CliRunner().invoke(main, ["best-of-n", str(config), "--set", "n=3"])
    assert f"best of 3 for {ROWS} contexts" in again.output
    assert "KL BOUND" in again.output
    assert "<svg" in (tmp_path / "best.work" / "curve.svg").read_text()
    refused = CliRunner().invoke(main, ["best-of-n", str(config), "--set", "n=9"])
    assert refused.exit_code == 5
    assert "pool of 3 samples" in refused.output
