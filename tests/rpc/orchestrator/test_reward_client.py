"""What the orchestrator asks the reward service, and what it makes of the answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ilf_common.artifacts import ArtifactStore
from ilf_common.errors import FailedPreconditionError
from services.orchestrator.adapters import reward_client
from services.orchestrator.adapters.reward_client import NoRewards, RewardClient
from services.orchestrator.calls import Item, Outcome
from tests.fakes.peers import Peers, hash_of, register
from tests.support import running_channel


def items(count: int, candidates: int = 3) -> list[Item]:
    return [
        Item(f"row {n}", f"context {n}", candidates=tuple(f"text {n} {k}" for k in range(candidates)))
        for n in range(count)
    ]


async def ranked(folder: Path, models: Sequence[str], rows: Sequence[Item]) -> dict[str, Outcome[Any]]:
    async with running_channel(register(Peers(ArtifactStore(str(folder))))) as channel:
        groups = [group async for group in RewardClient(channel).rank(models, rows)]
    outcomes = [outcome for group in groups for outcome in group]
    assert len({outcome.item_id for outcome in outcomes}) == len(outcomes) == len(rows)
    return {outcome.item_id: outcome for outcome in outcomes}


def reward_of(text: str) -> float:
    return (hash_of(text) % 1000) / 1000


async def test_the_score_of_a_candidate_is_the_mean_over_the_models(tmp_path: Path) -> None:
    rows = items(20)
    found = await ranked(tmp_path, ["one", "two"], rows)
    for row in rows:
        scores = found[row.item_id].result
        assert scores is not None
        for score, text in zip(scores, row.candidates, strict=True):
            assert score.score == pytest.approx(reward_of(text) + 0.5) and score.spread == pytest.approx(0.5)
            assert [(name, missing) for name, _, missing in score.judges] == [("one", 0.0), ("two", 0.0)]


async def test_candidates_that_are_compared_score_their_mean_chance_to_win(tmp_path: Path) -> None:
    rows = items(5, candidates=4)
    found = await ranked(tmp_path, ["compares"], rows)
    for row in rows:
        scores = found[row.item_id].result
        assert scores is not None
        for place, score in enumerate(scores):
            own, *others = [reward_of(text) for text in (row.candidates[place], *row.candidates) if text]
            others.remove(own)
            assert score.score == pytest.approx(sum(0.5 + (own - other) / 2 for other in others) / 3)


async def test_one_candidate_has_nothing_to_be_compared_with_and_17_are_too_many(tmp_path: Path) -> None:
    rows = [Item("one", "c", candidates=("x",)), Item("many", "c", candidates=tuple(map(str, range(17))))]
    found = await ranked(tmp_path, ["compares"], rows)
    assert found["one"].result is not None and found["one"].result[0].score == 0.5
    error = found["many"].error
    assert error is not None and error.reason == "TOO_MANY_CANDIDATES"


@pytest.mark.parametrize(("name", "limit"), [("_MAX_QUESTIONS", 7), ("_MAX_CHARACTERS", 50)])
async def test_long_calls_are_cut_wherever_it_suits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, limit: int
) -> None:
    whole = await ranked(tmp_path, ["one"], items(10))
    monkeypatch.setattr(reward_client, name, limit)
    assert await ranked(tmp_path, ["one"], items(10)) == whole


async def test_a_refused_candidate_is_the_error_of_its_item_alone(tmp_path: Path) -> None:
    rows = [*items(2), Item("bad", "POISON-rank", candidates=("x", "y"))]
    found = await ranked(tmp_path, ["one"], rows)
    assert found["bad"].error is not None and found["row 0"].error is None


async def test_the_digest_follows_the_checkpoints_and_their_order(tmp_path: Path) -> None:
    peers = Peers(ArtifactStore(str(tmp_path)))
    async with running_channel(register(peers)) as channel:
        client = RewardClient(channel)
        first = await client.models_digest(["one", "two"])
        assert first == await client.models_digest(["one", "two"]) != await client.models_digest(["two", "one"])
        peers.reward_digest = "changed"
        assert await client.models_digest(["one", "two"]) != first


async def test_without_a_reward_service_its_models_are_refused() -> None:
    with pytest.raises(FailedPreconditionError) as caught:
        await NoRewards().models_digest(["one"])
    assert caught.value.reason == "NO_REWARD_SERVICE" and "one" in caught.value.message
