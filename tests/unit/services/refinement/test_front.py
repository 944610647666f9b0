"""What the front of the refinement service writes down for workers that come later."""

from __future__ import annotations

from ilf.refinement.v1 import refinement_service_pb2 as pb

from ilf_common.front.journal import Journal
from services.refinement.front import API

CONTROLS = API.controls or {}


def load(journal: Journal, name: str, base_model: str = "") -> Journal:
    request = pb.LoadPolicyRequest(request_id="x", name=name, uri=f"store/{name}", base_model=base_model)
    return CONTROLS["LoadPolicy"](journal, request, pb.Policy(name=name, digest="d"))


def promote(journal: Journal, alias: str, name: str, previous: str = "", request_id: str = "") -> Journal:
    request = pb.PromotePolicyRequest(request_id=request_id, alias=alias, name=name)
    response = pb.PolicyAlias(alias=alias, policy=name, previous_policy=previous)
    return CONTROLS["PromotePolicy"](journal, request, response)


def steps(journal: Journal, key: str) -> list[tuple[str, dict[str, object]]]:
    return [(step.method, dict(step.request)) for step in journal.entries[key].steps]


def test_a_version_is_loaded_again_over_whatever_a_worker_has_there() -> None:
    journal = load(Journal.empty(), "run/it-1")
    assert steps(journal, "policies/run/it-1") == [
        ("LoadPolicy", {"name": "run/it-1", "uri": "store/run/it-1", "replace": True})
    ]
    entry = journal.entries["policies/run/it-1"]
    assert entry.resource == {"name": "run/it-1", "digest": "d"} and not entry.pinned


def test_an_adapter_comes_after_its_base_also_where_that_is_named_by_an_alias() -> None:
    journal = promote(load(Journal.empty(), "merged"), "live", "merged")
    assert load(journal, "a", "live").entries["policies/a"].needs == ("policies/merged",)
    assert load(journal, "b", "a model of the settings").entries["policies/b"].needs == ()


def test_an_alias_stands_with_the_version_to_roll_back_to() -> None:
    journal = load(load(Journal.empty(), "one"), "two")
    journal = promote(journal, "live", "two", "one", "id")
    assert steps(journal, "aliases/live") == [
        ("PromotePolicy", {"alias": "live", "name": "one"}),
        ("PromotePolicy", {"request_id": "id", "alias": "live", "name": "two"}),
    ]
    assert API.resource_key(journal, "live") == "policies/two"
    left = CONTROLS["UnloadPolicy"](journal, pb.UnloadPolicyRequest(name="one"), pb.UnloadPolicyResponse())
    assert [request["name"] for _, request in steps(left, "aliases/live")] == ["two"]
    assert "policies/one" not in left.entries


def test_a_version_at_rest_is_told_with_its_aliases_and_where_a_rollback_leads() -> None:
    journal = promote(load(load(Journal.empty(), "one"), "two"), "live", "two", "one")
    journal = promote(journal, "first", "two")
    loaded = pb.Policy(name="two", state=pb.POLICY_STATE_SERVING, running_requests=3)
    told = API.at_rest(journal, loaded)
    assert told.state == pb.POLICY_STATE_PARKED and told.running_requests == 0
    assert list(told.aliases) == ["first", "live"] and dict(told.rollback_targets) == {"live": "one"}
    once = pb.Policy(name="one", aliases=["live"], rollback_targets={"live": "zero"})
    assert not API.at_rest(journal, once).aliases and not once.rollback_targets, "what it was told before is over"


def test_an_alias_may_point_at_a_model_of_the_settings() -> None:
    journal = promote(load(Journal.empty(), "one"), "live", "base", "one")
    assert API.resource_key(journal, "live") == "policies/base"
    assert journal.entries["aliases/live"].needs == ("policies/one",)


def test_calls_depend_on_what_they_name() -> None:
    assert set(API.keys(pb.BatchRefineRequest(model="m"))) == {"policies/m", "aliases/m"}
    assert "policies/base" in API.keys(pb.LoadPolicyRequest(name="n", base_model="base"))
    assert API.keys(pb.ListPoliciesRequest()) == []
