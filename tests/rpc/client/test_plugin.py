from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from ilf.plugin.v1 import plugin_service_pb2 as pb
from ilf.plugin.v1.plugin_service_pb2_grpc import PluginServiceStub, add_PluginServiceServicer_to_server

from ilf_client.plugin import PluginServicer, load_function
from ilf_common.errors import FailedPreconditionError, InternalError, InvalidArgumentError, UnimplementedError
from ilf_common.rpc.client import call
from tests.support import running_channel

ITEMS = [pb.PluginItem(item_id="1", context="c", output="one"), pb.PluginItem(item_id="2", context="c", output="three")]


@asynccontextmanager
async def plugin(function: Callable[[str, str], Any], *, score: bool = False) -> AsyncIterator[Any]:
    def register(server: grpc.aio.Server) -> list[str]:
        add_PluginServiceServicer_to_server(PluginServicer(function, score=score), server)
        return []

    async with running_channel(register) as channel:
        yield PluginServiceStub(channel)


async def test_a_function_gives_feedback_in_order() -> None:
    async with plugin(lambda context, output: f"{context}: {output}?") as stub:
        response = await call(stub.GiveFeedback, pb.GiveFeedbackRequest(items=ITEMS), timeout=5)
    assert list(response.feedback) == ["c: one?", "c: three?"]


async def test_an_async_function_scores() -> None:
    async def score(context: str, output: str) -> bool:
        return output == "three"

    async with plugin(score, score=True) as stub:
        response = await call(stub.ScoreOutputs, pb.ScoreOutputsRequest(items=ITEMS), timeout=5)
    assert list(response.scores) == [0.0, 1.0]


async def test_the_other_call_is_not_offered() -> None:
    async with plugin(lambda context, output: "") as stub:
        with pytest.raises(UnimplementedError, match="--score"):
            await call(stub.ScoreOutputs, pb.ScoreOutputsRequest(items=ITEMS), timeout=5)


def broken(context: str, output: str) -> str:
    raise RuntimeError("secret")


async def test_a_wrong_answer_and_a_fault_are_told_apart() -> None:
    async with plugin(lambda context, output: 3) as stub:
        with pytest.raises(FailedPreconditionError, match="answered a int, a text is wanted"):
            await call(stub.GiveFeedback, pb.GiveFeedbackRequest(items=ITEMS), timeout=5)
    async with plugin(broken) as stub:
        with pytest.raises(InternalError) as caught:
            await call(stub.GiveFeedback, pb.GiveFeedbackRequest(items=ITEMS), timeout=5)
    assert "secret" not in caught.value.message


def test_functions_are_found_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_plugin_module.py").write_text("def give(context, output): return 'ok'\nnumber = 3\n")
    monkeypatch.chdir(tmp_path)
    assert load_function("my_plugin_module:give")("c", "x") == "ok"
    for wrong in ("my_plugin_module", "my_plugin_module:none", "my_plugin_module:number", "no_such_module:f"):
        with pytest.raises(InvalidArgumentError, match="MODULE:FUNCTION"):
            load_function(wrong)
