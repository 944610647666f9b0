"""What pools need: by rows and calls, before their stage begins, and no longer than that."""

import math
from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.pools.journey import Journey, Leg, Share
from services.orchestrator.pools.models import Decision, FrontStatus, PoolRules, Speed
from services.orchestrator.pools.planner import Need, PoolState, decide, needs
from tests.unit.services.orchestrator.pools.runs import NOW

RULES = PoolRules("refinement", 0, 8, target_seconds=10.0, idle_seconds=30.0, hand_over=True)
RANKING = replace(RULES, name="ranking")


def state(rules: PoolRules = RULES, *, rate: float = 1.0, start: float = 20.0, **front: int) -> PoolState:
    return PoolState(rules, Speed(rate, start), FrontStatus(**front))


def leg(stage: str, *shares: tuple[str, int], seconds: float = 0.0) -> Leg:
    return Leg(stage, tuple(Share(pool, stage, rows) for pool, rows in shares), seconds, trains=stage == "finetune")


def run(*legs: Leg, name: str = "a") -> Journey:
    return Journey(name, legs, waits_for_training=bool(legs) and legs[0].trains)


def needed(journeys: list[Journey], *pools: PoolState) -> dict[str, int]:
    by_name = {pool.rules.name: pool for pool in pools or (state(), state(RANKING))}
    return {name: need.replicas for name, need in needs(by_name, journeys).items()}


rows = st.integers(0, 100_000)
few = st.integers(0, 500)
rates = st.floats(0.01, 1000)
limits = st.integers(0, 4).flatmap(lambda low: st.tuples(st.just(low), st.integers(max(low, 1), 64)))


@given(rows, few, few, rates, limits)
def test_the_need_is_the_backlog_over_what_a_replica_works_off_in_the_target_time(
    left: int, queued: int, running: int, rate: float, allowed: tuple[int, int]
) -> None:
    rules = replace(RULES, min_replicas=allowed[0], max_replicas=allowed[1])
    found = needed(
        [run(leg("generate", ("refinement", left)))],
        state(rules, rate=rate, queued_items=queued, running_items=running),
    )
    exact = math.ceil((left + queued + running) / (rate * 10.0))
    assert found["refinement"] == max(allowed[0], min(exact, allowed[1]))


@given(st.lists(rows, max_size=6), rows, rates)
def test_another_run_never_lowers_a_need(lefts: list[int], more: int, rate: float) -> None:
    journeys = [run(leg("generate", ("refinement", left))) for left in lefts]
    before = needed(journeys, state(rate=rate))
    after = needed([*journeys, run(leg("generate", ("refinement", more)))], state(rate=rate))
    assert after["refinement"] >= before["refinement"]


@given(st.floats(0, 100), st.floats(0.1, 100), st.integers(1, 1000))
def test_a_pool_wakes_as_early_as_it_takes_to_start(begins_in: float, start: float, left: int) -> None:
    found = needed([run(leg("feedback", seconds=begins_in), leg("refine", ("refinement", left)))], state(start=start))
    assert (found["refinement"] > 0) == (begins_in <= start)


def test_how_soon_a_stage_begins_follows_from_the_rate_and_the_rows_of_the_stage_before() -> None:
    def ranking(left: int) -> int:
        serving, asleep = state(rate=2.0, ready_workers=5), state(RANKING, start=20.0)
        return needed([run(leg("generate", ("refinement", left)), leg("refine", ("ranking", 50)))], serving, asleep)[
            "ranking"
        ]

    assert ranking(201) == 0
    assert ranking(200) == 5


def test_a_pool_that_another_one_feeds_is_not_there_before_the_other_one() -> None:
    slow, quick = state(start=60.0), state(RANKING, start=20.0)
    improve = [run(leg("refine", ("refinement", 100), ("ranking", 100)))]
    assert needed(improve, slow, quick) == {"refinement": 8, "ranking": 0}
    assert needed(improve, replace(slow, waking_seconds=45.0), quick)["ranking"] > 0


def test_a_fed_pool_needs_what_arrives_in_its_target_time_and_no_more() -> None:
    first = state(rate=0.5, ready_workers=2)
    improve = [run(leg("refine", ("refinement", 1000), ("ranking", 1000)))]
    assert needed(improve, first, state(RANKING))["ranking"] == 1
    waiting = [run(leg("refine", ("refinement", 1000), ("ranking", 1030)))]
    assert needed(waiting, first, state(RANKING))["ranking"] == 4


def test_items_that_the_front_has_are_counted_once() -> None:
    one = run(Leg("generate", (Share("refinement", "generate", 40, in_flight=30),)))
    with_front = state(queued_items=20, running_items=10)
    assert needed([one], with_front)["refinement"] == 4
    assert needed([one], replace(with_front, front=None))["refinement"] == 4


def test_calls_alone_wake_a_pool() -> None:
    assert needed([], state(queued_items=1))["refinement"] == 1


def test_a_run_that_waits_for_a_pool_needs_it_between_its_calls_too() -> None:
    waiting = replace(run(leg("evaluate", ("refinement", 10))), waits_for_pool="ranking")
    assert needed([waiting], state(), state(RANKING))["ranking"] == 1
    assert needed([waiting], state()) == {"refinement": 1}


def test_a_run_that_waits_for_people_holds_no_pool() -> None:
    people = run(leg("feedback", seconds=math.inf), leg("refine", ("refinement", 100)))
    assert needed([people]) == {"refinement": 0, "ranking": 0}


def test_a_pool_that_shares_its_gpus_is_not_woken_before_training_ends_and_another_one_is() -> None:
    soon = run(leg("finetune", seconds=5.0), leg("load", ("refinement", 1)))
    assert needed([soon])["refinement"] == 0
    assert needed([soon], state(replace(RULES, hand_over=False)))["refinement"] == 1


def test_no_pool_grows_while_another_one_that_shares_its_gpus_is_needed_and_has_none() -> None:
    waiting = [run(leg("refine", ("refinement", 1000), ("ranking", 1030)))]
    asleep, awake = state(RANKING), state(RANKING, ready_workers=1)
    assert needed(waiting, state(ready_workers=3), asleep)["refinement"] == 3
    assert needed(waiting, state(ready_workers=3), awake)["refinement"] == 8
    assert needed([run(leg("generate", ("refinement", 1000)))], state(), asleep)["refinement"] == 8
    apart = state(replace(RANKING, hand_over=False))
    assert needed(waiting, state(ready_workers=3), apart)["refinement"] == 8


def test_a_pool_gives_back_all_but_one_for_another_one_that_finds_no_gpu() -> None:
    waiting = [run(leg("refine", ("refinement", 1000), ("ranking", 1030)))]
    starved = replace(state(RANKING, start=20.0), waking_seconds=41.0)
    assert needed(waiting, state(ready_workers=3), starved)["refinement"] == 1
    floor = state(replace(RULES, min_replicas=2), ready_workers=3)
    assert needed(waiting, floor, starved)["refinement"] == 2


def test_what_a_pool_yields_it_gives_at_once() -> None:
    before = decide(RULES, None, need(3), NOW)
    assert decide(RULES, before, replace(need(1), yields=True), NOW).want == 1


def need(replicas: int) -> Need:
    return Need(replicas, 0, "why")


def later(seconds: float, before: Decision, replicas: int, trains: str = "") -> Decision:
    return decide(RULES, before, need(replicas), NOW + timedelta(seconds=seconds), trains=trains)


def test_more_is_wanted_at_once_and_fewer_after_the_idle_time() -> None:
    first = decide(RULES, None, need(1), NOW)
    more = later(5, first, 3)
    assert (more.want, more.since) == (3, NOW + timedelta(seconds=5))
    assert later(34, more, 0).want == 3
    assert later(35, more, 0).want == 0


def test_a_need_that_comes_back_begins_the_idle_time_anew() -> None:
    first = decide(RULES, None, need(2), NOW)
    again = later(20, later(10, first, 0), 2)
    assert (again.want, again.since) == (2, NOW)
    assert later(40, again, 0).want == 2


@given(st.integers(0, 8), st.integers(0, 8), st.floats(0, 100))
def test_training_takes_what_is_not_needed_at_once_and_nothing_else(wanted: int, left: int, seconds: float) -> None:
    before = decide(RULES, None, need(wanted), NOW)
    assert later(seconds, before, left, trains="b").want == left


@given(st.lists(st.tuples(st.floats(0, 60), st.integers(0, 8)), max_size=30))
def test_a_want_is_never_below_the_need_nor_above_all_needs_of_the_idle_time(steps: list[tuple[float, int]]) -> None:
    now, decision, seen = 0.0, decide(RULES, None, need(0), NOW), [(0.0, 0)]
    for pause, replicas in steps:
        now += pause
        seen.append((now, replicas))
        decision = later(now, decision, replicas)
        highest = max(count for _, count in seen)
        assert replicas <= decision.want <= highest
