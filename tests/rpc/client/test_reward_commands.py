"""`ilf reward` and the SDK's reward calls against a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ilf.common.v1 import common_pb2 as common

import ilf_client as sdk
from ilf_client.aio.client import AsyncClient
from tests.fakes.ilf_server import FakeServices
from tests.rpc.client.test_cli import Ilf, ilf

__all__ = ["ilf"]


def asked(services: FakeServices, rpc: str) -> Any:
    return services.calls[rpc][-1]


async def test_the_sdk_asks_one_model_or_several(client: AsyncClient, services: FakeServices) -> None:
    found = await client.reward.compare("rm", "c", "x", "y")
    assert (found.probability_a, found.spread, found.model_probabilities) == (0.25, 0.1, (0.25,))
    await client.reward.score(["rm", "other"], "c", "x", normalize=True)
    assert list(asked(services, "Score").models) == ["rm", "other"]
    pairs = [sdk.CompareItem(str(n), "c", "x", "y") for n in range(3)]
    outcomes = [outcome async for outcome in client.reward.batch_compare("rm", pairs)]
    assert [outcome.result.probability_a for outcome in outcomes if outcome.result] == [0.75] * 3


async def test_the_sdk_trains_with_options_and_measures(client: AsyncClient, services: FakeServices) -> None:
    options = sdk.RewardOptions(sdk.RewardLoss.A_B, held_out_uri="h.jsonl", slice_column="topic")
    question = sdk.PromptTemplate("q", "{context} {output_a} {output_b}", "", ("A",), ("B",))
    await client.reward.train("base", "pairs.jsonl", "out", options=options, template=question)
    request = asked(services, "TrainRewardModel")
    assert (request.loss, request.held_out_uri) == (common.REWARD_LOSS_A_B, "h.jsonl")
    assert list(request.template.negative_answers) == ["B"]
    report = await client.reward.evaluate("rm", "pairs.jsonl", slice_column="topic")
    assert isinstance(report, sdk.RewardReport)
    assert report.accuracy.standard_error == float("inf") and report.length.matched_accuracy is None
    model = await client.reward.get("measured")
    assert (model.loss, model.temperature, model.held_out) == (sdk.RewardLoss.YES_NO, 1.5, report)
    assert (await client.reward.get("rm")).held_out is None


def test_training_sends_local_files_and_says_how_to_go_on(ilf: Ilf, services: FakeServices, tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text("{}\n")
    result = ilf(
        "reward", "train", "base", "pairs.jsonl", "rewards/one", "--loss", "yes_no", "--held-out-share", "0.2", "--lora"
    )
    assert result.exit_code == 0, result.output
    assert "ilf jobs watch jobs/rm" in result.output and "ilf reward load NAME rewards/one" in result.output
    request = asked(services, "TrainRewardModel")
    assert request.dataset_uri in services.uploads
    assert (request.loss, request.held_out_share, request.lora) == (common.REWARD_LOSS_YES_NO, 0.2, True)


def test_measuring_prints_a_table_and_saves_report_and_plot(ilf: Ilf, services: FakeServices, tmp_path: Path) -> None:
    arguments = ("reward", "evaluate", "store/pairs.jsonl", "--model", "rm", "--model", "b", "--slice-column", "topic")
    result = ilf(*arguments, "--save", "report")
    assert result.exit_code == 0, result.output
    for part in (
        "left out: 2 comparisons, equal_texts",
        "0.75 ± ?",
        "0.500 to 0.900",
        "cats",
        "0.1000",
        "0.01 ± 0.002",
    ):
        assert part in result.output
    assert list(asked(services, "EvaluateRewardModel").models) == ["rm", "b"]
    saved = json.loads((tmp_path / "report" / "report.json").read_text())
    assert saved["accuracy"] == {"value": 0.75, "standard_error": "Infinity", "n": 1}
    assert (tmp_path / "report" / "reliability.png").read_bytes().startswith(b"\x89PNG")
    printed = json.loads(ilf(*arguments, "-o", "json").output)
    assert printed == saved


def test_a_model_is_shown_with_what_it_was_worth(ilf: Ilf) -> None:
    assert "0.75 ± ?" in ilf("reward", "show", "measured").output
    assert "nothing was held out" in ilf("reward", "show", "rm").output
    assert ilf("reward", "show", "rm", "--save", "x").exit_code == 2
    assert json.loads(ilf("reward", "show", "measured", "-o", "json").output)["loss"] == "yes_no"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("load", "rm", "rewards/one"), "rm is loaded"),
        (("unload", "rm"), "rm is unloaded"),
        (("list",), "TEMPERATURE"),
        (("score", "--model", "rm", "--context", "c", "--text", "x"), "1.5"),
        (("compare", "--model", "rm", "--context", "c", "--a", "x", "--b", "y"), "B  (p(A) = 0.250)"),
    ],
)
def test_the_other_commands_say_what_they_did(ilf: Ilf, arguments: tuple[str, ...], part: str) -> None:
    result = ilf("reward", *arguments)
    assert result.exit_code == 0 and part in result.output
    json.loads(ilf("reward", *arguments, "-o", "json").output)


@pytest.mark.parametrize("arguments", [("score", "--model", "rm"), ("compare", "--model", "rm"), ("evaluate", "x")])
def test_what_is_missing_is_named(ilf: Ilf, arguments: tuple[str, ...]) -> None:
    assert ilf("reward", *arguments).exit_code == 2
