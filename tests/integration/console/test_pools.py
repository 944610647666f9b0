"""Engineers look at the replicas of a pool: how many are wanted, how many there are, and why."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import expect

from tests.integration.console.browsing import Person, accessibility_faults
from tests.integration.console.world import World, made_rows


def test_without_a_pool_the_page_says_how_replicas_are_scaled(person: Callable[..., Person], world: World) -> None:
    page = person("Eve").open("/pools")
    expect(page.get_by_role("heading", name="Nothing is scaled here")).to_be_visible()


def test_a_pool_says_what_it_wants_what_it_has_and_why(own_world: World, person: Callable[..., Person]) -> None:
    own_world.pool = {"max_replicas": 2, "idle_seconds": 600, "items_per_second": 0.01}
    own_world.start()
    eve = person("Eve", own_world)  # before the run: whoever comes in is given a task
    own_world.create_waiting("asks", made_rows("asks", 4))
    page = eve.open("/pools")
    pool = page.get_by_role("row", name="refinement")
    have = pool.get_by_role("cell").nth(1)
    expect(have).to_have_text("1")
    own_world.stop("peers")
    expect(have).to_have_text("0")
    with own_world.client() as client:
        for task in client.feedback.lease("Ann", run="asks", count=4).tasks:
            client.feedback.submit(task.name, "Ann", "Shorter.")
    expect(pool).to_contain_text("refine (run asks")
    expect(pool).to_contain_text(re.compile(r"2 of 0\S2"))
    assert accessibility_faults(page) == []
    of_run = page.context.new_page()
    of_run.goto(f"{own_world.url}/runs/asks")
    expect(of_run.get_by_role("region", name="Pools").get_by_role("row", name="refinement")).to_contain_text("run asks")
    own_world.start("peers")
    expect(have).to_have_text("1")
    assert own_world.ended("runs/asks").state.value == "succeeded"
