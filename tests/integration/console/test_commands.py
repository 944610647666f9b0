"""What a page shows is copied as a command, and the command shows it too."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from ilf_client.models.tasks import Verdict
from tests.integration.console.browsing import Person
from tests.integration.console.commanding import run_command
from tests.integration.console.world import World, judged_by, made_rows


@pytest.fixture(scope="module")
def shown(world: World) -> Iterator[World]:
    """Two runs on the same contexts; the samples of the first have a word with blanks and quotes to look for."""
    rows = [{**row, "context": f'{row["context"]} it\'s *one* "of" them'} for row in made_rows("shown", 4)]
    world.create_finished("shown", rows, rank=judged_by(1))
    world.create_finished("shown-again", rows, rank=judged_by(1), seed=8)
    with world.client() as client:
        for verdict in (Verdict.YES, Verdict.NO):
            (task,) = client.reviews.lease("Bob", run="shown").tasks
            client.reviews.submit(task.name, "Bob", verdict)
    yield world


@pytest.fixture
def copied(person: Callable[..., Person], shown: World) -> Callable[[str], list[str]]:
    """The commands that a page offers, as the clipboard has them."""
    eve = person("Eve")
    eve.context.grant_permissions(["clipboard-read", "clipboard-write"])

    def copy(path: str) -> list[str]:
        page = eve.open(path)
        page.get_by_role("button", name="Copy as CLI").click()
        page.get_by_role("button", name="Copied").wait_for()
        return clipboard(page).split(" && ")

    return copy


def clipboard(page: Page) -> str:
    text: str = page.evaluate("navigator.clipboard.readText()")
    return text


def names(rows: Any) -> set[str]:
    return {row["name"] for row in rows}


LISTS: Mapping[str, tuple[str, Callable[[Any], object], object]] = {
    "runs": ("/runs?state=succeeded&text=shown-", names, {"runs/shown-again"}),
    "samples": (
        "/runs/shown/samples?iteration=1&text=it%27s+*one*+%22of%22&order_by=score&descending=yes&size=25",
        lambda rows: {row["item_id"] for row in rows},
        {f"shown-{n}" for n in range(4)},
    ),
    "one-sample": (
        "/runs/shown/samples?iteration=1&item=shown-2",
        lambda rows: [row["item_id"] for row in rows],
        ["shown-2"],
    ),
    "run": ("/runs/shown", lambda run: run["name"], "runs/shown"),
}


@pytest.mark.parametrize("name", LISTS)
def test_the_command_of_a_page_shows_the_same(
    name: str, copied: Callable[[str], list[str]], shown: World, tmp_path: Path
) -> None:
    path, take, expected = LISTS[name]
    (command,) = copied(path)
    assert take(json.loads(run_command(shown, command, tmp_path, "-o", "json"))) == expected


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/contrast?first=shown&first_iteration=1&second=shown-again&second_iteration=1", "SHOWN-AGAIN"),
        ("/contrast/metrics?first=shown&second=shown-again", "SHOWN-AGAIN"),
        ("/jobs", "jobs/"),
        ("/policies", "shown/it-1"),
        ("/pools", ""),
        ("/agreement?run=shown", "reviews"),
    ],
)
def test_other_pages_have_commands_that_work(
    path: str, words: str, copied: Callable[[str], list[str]], shown: World, tmp_path: Path
) -> None:
    (command,) = copied(path)
    assert words in run_command(shown, command, tmp_path)


def test_the_reviews_behind_a_reliability_plot_come_as_a_file_that_measures_judges(
    copied: Callable[[str], list[str]], shown: World, tmp_path: Path
) -> None:
    export, calibrate = copied("/runs/shown/reliability")
    run_command(shown, export, tmp_path)
    run_command(shown, calibrate, tmp_path)
    assert list(tmp_path.rglob("judges.md"))
    rows = map(json.loads, (tmp_path / "reviews.jsonl").read_text(encoding="utf-8").splitlines())
    assert sorted(row["incorporated"] for row in rows) == ["no", "yes"]
