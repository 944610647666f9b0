"""The refinement service as its front sees it: what control calls leave behind, and what calls depend on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from ilf.refinement.v1 import refinement_service_pb2 as pb

from ilf_common.front.api import FrontedApi
from ilf_common.front.journal import Entry, Journal, Step
from ilf_common.front.settings import FrontSettings, front_server
from ilf_common.settings import ServerSettings

_POLICIES, _ALIASES = "policies/", "aliases/"


def _step(method: str, request: Message) -> Step:
    return Step(method, MessageToDict(request, preserving_proto_field_name=True))


def _loaded(journal: Journal, request: pb.LoadPolicyRequest, response: pb.Policy) -> Journal:
    """A worker that still has an older version under the name swaps it."""
    again = pb.LoadPolicyRequest(name=request.name, uri=request.uri, base_model=request.base_model, replace=True)
    return journal.put(
        _POLICIES + request.name,
        [_step("LoadPolicy", again)],
        needs=[_target(journal, request.base_model)],
        resource=MessageToDict(response, preserving_proto_field_name=True),
    )


def _unloaded(journal: Journal, request: pb.UnloadPolicyRequest, response: pb.UnloadPolicyResponse) -> Journal:
    """Aliases keep their version (no worker unloads it), and lose this one as that to roll back to."""
    for entry in list(journal.entries.values()):
        if entry.key.startswith(_ALIASES) and _names(entry)[:-1] == [request.name]:
            kept = entry.steps[-1:]
            journal = journal.put(entry.key, kept, needs=[_POLICIES + _names(entry)[-1]], pinned=True)
    return journal.remove(_POLICIES + request.name)


def _pointed(journal: Journal, request: Any, response: pb.PolicyAlias) -> Journal:
    """An alias stands where the workers say, with the version before it as the one to roll back to."""
    names = [name for name in (response.previous_policy, response.policy) if name]
    ids = [""] * (len(names) - 1) + [request.request_id]
    return journal.put(
        _ALIASES + response.alias,
        [
            _step("PromotePolicy", pb.PromotePolicyRequest(request_id=request_id, alias=response.alias, name=name))
            for request_id, name in zip(ids, names, strict=True)
        ],
        needs=[_POLICIES + name for name in names],
        pinned=True,
    )


def _taken_out(key: str) -> Step | None:
    """Only versions can be taken out; an alias that nobody knows of harms nobody."""
    if not key.startswith(_POLICIES):
        return None
    return Step("UnloadPolicy", {"name": key.removeprefix(_POLICIES)})


def _keys(request: Any) -> Sequence[str]:
    """Versions and aliases that a request names."""
    fields = request.DESCRIPTOR.fields_by_name
    names = [getattr(request, name) for name in ("model", "name", "base_model") if name in fields]
    return [prefix + name for name in names if name for prefix in (_POLICIES, _ALIASES)]


def _target(journal: Journal, name: str) -> str:
    """The key of the version that a name or an alias means."""
    alias = journal.get(_ALIASES + name)
    return _POLICIES + (_names(alias)[-1] if alias is not None else name)


def _names(alias: Entry) -> list[str]:
    """The versions that an alias was pointed at, the present one last."""
    return [str(step.request["name"]) for step in alias.steps]


def _at_rest(journal: Journal, policy: pb.Policy) -> pb.Policy:
    """The journal knows where aliases point, also of a policy that was loaded before they did."""
    policy.state = pb.POLICY_STATE_PARKED
    policy.running_requests = 0
    pointed = {
        entry.key.removeprefix(_ALIASES): _names(entry)
        for entry in journal.entries.values()
        if entry.key.startswith(_ALIASES) and _names(entry)[-1] == policy.name
    }
    policy.aliases[:] = sorted(pointed)
    policy.rollback_targets.clear()
    policy.rollback_targets.update({alias: names[-2] for alias, names in pointed.items() if len(names) > 1})
    return policy


class RefinementFrontSettings(FrontSettings):
    """Settings of the front; section `refinement_front`."""

    server: ServerSettings = front_server(50051, 9101)


API = FrontedApi(
    pool="refinement",
    service=pb.DESCRIPTOR.services_by_name["RefinementService"],
    list_method="ListPolicies",
    get_method="GetPolicy",
    controls={
        "LoadPolicy": _loaded,
        "UnloadPolicy": _unloaded,
        "PromotePolicy": _pointed,
        "RollbackPolicy": _pointed,
    },
    undo=_taken_out,
    keys=_keys,
    resource_key=_target,
    at_rest=_at_rest,
)
