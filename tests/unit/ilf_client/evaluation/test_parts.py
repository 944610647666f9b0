"""Parts of work: what survives, what is asked again, and how much is in work at a time."""

from __future__ import annotations

import asyncio
import json
import math
import multiprocessing
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from ilf_client.evaluation.files import as_json, owned, seed_of
from ilf_client.evaluation.parts import Record, Stage, answers, in_order
from ilf_client.files import new_file
from ilf_client.models.inference import Outcome
from ilf_common.errors import FailedPreconditionError, InvalidArgumentError, UnavailableError


@dataclass(frozen=True)
class Question:
    item_id: str
    text: str = ""


ITEMS = [Question(f"q{k}") for k in range(5)]


class Oracle:
    """Answers backwards, and breaks off after so many answers."""

    def __init__(self, limit: int = 100) -> None:
        self.limit = limit
        self.asked: list[str] = []

    async def __call__(self, items: Sequence[Question]) -> AsyncIterator[tuple[str, Record]]:
        self.asked += [item.item_id for item in items]
        for count, item in enumerate(reversed(items)):
            if count == self.limit:
                raise UnavailableError("gone")
            yield item.item_id, {"answer": item.item_id.upper()}


async def test_answers_are_in_the_items_order_and_asked_for_once(tmp_path: Path) -> None:
    stage, oracle = Stage(tmp_path, "ask", {"seed": 1}), Oracle()
    found = await stage.part(0, ITEMS, oracle)
    assert list(found) == [item.item_id for item in ITEMS]
    assert await Stage(tmp_path, "ask", {"seed": 1}).part(0, ITEMS, oracle) == found
    assert oracle.asked == [item.item_id for item in ITEMS]
    assert not list(tmp_path.rglob("*.journal"))


async def test_answers_before_a_fault_stay(tmp_path: Path) -> None:
    stage, oracle = Stage(tmp_path, "ask", {}), Oracle(limit=2)
    with pytest.raises(UnavailableError):
        await stage.part(0, ITEMS, oracle)
    oracle.asked.clear()
    oracle.limit = 100
    await stage.part(0, ITEMS, oracle)
    assert oracle.asked == ["q0", "q1", "q2"]


@pytest.mark.parametrize(
    ("key", "items"), [({"seed": 2}, ITEMS), ({"seed": 1}, [*ITEMS[:4], Question("q4", "another text")])]
)
async def test_another_key_or_item_is_another_question(tmp_path: Path, key: Record, items: list[Question]) -> None:
    oracle = Oracle()
    await Stage(tmp_path, "ask", {"seed": 1}).part(0, ITEMS, oracle)
    await Stage(tmp_path, "ask", key).part(0, items, oracle)
    assert len(oracle.asked) == 10


async def test_nothing_is_asked_about_no_items(tmp_path: Path) -> None:
    assert await Stage(tmp_path, "ask", {}).part(0, [], Oracle()) == {}


async def test_an_items_own_fault_is_kept_and_a_passing_one_is_raised_after_the_rest() -> None:
    async def outcomes() -> AsyncIterator[Outcome[int]]:
        yield Outcome("a", error=InvalidArgumentError.of("context", "is too long", reason="PROMPT_TOO_LONG"))
        yield Outcome("b", error=UnavailableError("gone"))
        yield Outcome("c", result=3)

    found = []
    with pytest.raises(UnavailableError):
        async for answer in answers(outcomes(), lambda number: {"number": number}):
            found.append(answer)
    assert found == [("a", {"error": "PROMPT_TOO_LONG", "message": "context: is too long"}), ("c", {"number": 3})]


async def test_results_come_in_order_and_few_parts_are_in_work() -> None:
    started, most = set[int](), 0

    async def work(number: int) -> int:
        nonlocal most
        started.add(number)
        most = max(most, len(started))
        for _ in range(10 - number % 7):
            await asyncio.sleep(0)
        return number

    found = []
    async for number in in_order(range(40), work, ahead=3):
        started.discard(number)
        found.append(number)
    assert found == list(range(40))
    assert most <= 3


async def test_a_fault_ends_the_parts_beside_it() -> None:
    ended = []

    async def work(number: int) -> int:
        try:
            await asyncio.sleep(0 if number == 0 else 60)
        finally:
            ended.append(number)
        raise InvalidArgumentError("first")

    with pytest.raises(InvalidArgumentError):
        async for _ in in_order(range(9), work, ahead=3):
            pass
    assert sorted(ended) == [0, 1, 2]


def _hold(folder: Path, ready: multiprocessing.synchronize.Event, done: multiprocessing.synchronize.Event) -> None:
    with owned(folder):
        ready.set()
        done.wait(30)


def test_a_work_folder_has_one_owner_at_a_time(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    ready, done = spawn.Event(), spawn.Event()
    other = spawn.Process(target=_hold, args=(tmp_path, ready, done))
    other.start()
    try:
        assert ready.wait(30)
        with pytest.raises(FailedPreconditionError, match="Another process"), owned(tmp_path):
            pass
    finally:
        done.set()
        other.join()
    with owned(tmp_path):
        pass


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), new_file(tmp_path / "a.txt") as stream:
        stream.write("half")
        _ = 1 / 0
    assert not (tmp_path / "a.txt").exists()


def test_json_has_no_infinities_and_seeds_follow_from_names() -> None:
    assert json.dumps(as_json({"a": math.inf, "b": [math.nan, 1.5]})) == '{"a": null, "b": [null, 1.5]}'
    assert seed_of(1, "a", "b") != seed_of(1, "ab")
    assert 0 <= seed_of(0, "x") < 2**63
