"""The reward service as its front sees it: what control calls leave behind, and what calls depend on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict
from ilf.reward.v1 import reward_service_pb2 as pb

from ilf_common.front.api import FrontedApi
from ilf_common.front.journal import Journal, Step
from ilf_common.front.settings import FrontSettings, front_server
from ilf_common.settings import ServerSettings

_MODELS = "reward-models/"


def _loaded(journal: Journal, request: pb.LoadRewardModelRequest, response: pb.RewardModel) -> Journal:
    return journal.put(
        _MODELS + request.name,
        [Step("LoadRewardModel", {"name": request.name, "uri": request.uri})],
        resource=MessageToDict(response, preserving_proto_field_name=True),
    )


def _unloaded(
    journal: Journal, request: pb.UnloadRewardModelRequest, response: pb.UnloadRewardModelResponse
) -> Journal:
    return journal.remove(_MODELS + request.name)


def _keys(request: Any) -> Sequence[str]:
    """Reward models that a request names; the `model` of BestOfN is one of the refinement service."""
    fields = request.DESCRIPTOR.fields_by_name
    for field in ("reward_models", "models"):
        if field in fields:
            return [_MODELS + name for name in getattr(request, field)]
    return [_MODELS + request.name] if "name" in fields else []


class RewardFrontSettings(FrontSettings):
    """Settings of the front; section `reward_front`."""

    server: ServerSettings = front_server(50053, 9103)


API = FrontedApi(
    pool="reward",
    service=pb.DESCRIPTOR.services_by_name["RewardService"],
    list_method="ListRewardModels",
    get_method="GetRewardModel",
    controls={"LoadRewardModel": _loaded, "UnloadRewardModel": _unloaded},
    undo=lambda key: Step("UnloadRewardModel", {"name": key.removeprefix(_MODELS)}),
    keys=_keys,
    resource_key=lambda journal, name: _MODELS + name,
)
