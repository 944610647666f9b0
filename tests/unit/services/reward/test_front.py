"""What the front of the reward service writes down for workers that come later."""

from __future__ import annotations

from ilf.reward.v1 import reward_service_pb2 as pb

from ilf_common.front.journal import Journal, Step
from services.reward.front import API

CONTROLS = API.controls or {}


def test_a_reward_model_is_loaded_again_until_it_is_unloaded() -> None:
    request = pb.LoadRewardModelRequest(request_id="x", name="rm", uri="store/rm")
    journal = CONTROLS["LoadRewardModel"](Journal.empty(), request, pb.RewardModel(name="rm"))
    assert journal.entries["reward-models/rm"].steps == (Step("LoadRewardModel", {"name": "rm", "uri": "store/rm"}),)
    gone = CONTROLS["UnloadRewardModel"](
        journal, pb.UnloadRewardModelRequest(name="rm"), pb.UnloadRewardModelResponse()
    )
    assert not gone.entries
    assert API.undo("reward-models/rm") == Step("UnloadRewardModel", {"name": "rm"})


def test_calls_depend_on_the_reward_model_that_they_name() -> None:
    assert API.keys(pb.ScoreRequest(models=["rm"])) == ["reward-models/rm"]
    assert API.keys(pb.BestOfNRequest(reward_models=["rm"], model="policy")) == ["reward-models/rm"]
    assert API.keys(pb.TrainRewardModelRequest()) == []
