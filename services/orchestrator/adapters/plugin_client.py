"""Programs that users run, over gRPC: one channel an address, kept open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import grpc
from ilf.plugin.v1 import plugin_service_pb2 as pb
from ilf.plugin.v1.plugin_service_pb2_grpc import PluginServiceStub

from ilf_common.errors import FailedPreconditionError
from ilf_common.rpc.client import ChannelSettings, call, open_channel
from services.orchestrator.calls import Item

_SECONDS = 600.0
AnswerT = TypeVar("AnswerT")


class PluginClient:
    """Implements `ports.Plugin`.

    Args:
        settings: How plugins are reached, but for the address.
    """

    def __init__(self, settings: ChannelSettings) -> None:
        self._settings = settings
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def give_feedback(self, address: str, items: Sequence[Item]) -> list[str]:
        """One feedback text an item.

        Raises:
            FailedPreconditionError: PLUGIN_BROKEN; the answer is not one text an item.
        """
        request = pb.GiveFeedbackRequest(items=_items(items))
        response = await call(self._stub(address).GiveFeedback, request, timeout=_SECONDS)
        return _one_each(list(response.feedback), items, address)

    async def score_outputs(self, address: str, items: Sequence[Item]) -> list[float]:
        """One number an item; errors as `give_feedback`."""
        request = pb.ScoreOutputsRequest(items=_items(items))
        response = await call(self._stub(address).ScoreOutputs, request, timeout=_SECONDS)
        return _one_each(list(response.scores), items, address)

    async def close(self) -> None:
        """Closes the channels."""
        for channel in self._channels.values():
            await channel.close()

    def _stub(self, address: str) -> PluginServiceStub:
        if address not in self._channels:
            self._channels[address] = open_channel(replace(self._settings, address=address))
        return PluginServiceStub(self._channels[address])


def _items(items: Sequence[Item]) -> list[pb.PluginItem]:
    return [pb.PluginItem(item_id=item.item_id, context=item.context, output=item.output) for item in items]


def _one_each(answers: list[AnswerT], items: Sequence[Item], address: str) -> list[AnswerT]:
    if len(answers) != len(items):
        raise FailedPreconditionError(
            f"The plugin at {address} gave {len(answers)} answers for {len(items)} items; it must give one each, in "
            "their order.",
            reason="PLUGIN_BROKEN",
        )
    return answers
