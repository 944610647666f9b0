"""Serves a user's function as the plugin that the loop calls for feedback or for a task's exact metric."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import grpc
from ilf.plugin.v1 import plugin_service_pb2 as pb
from ilf.plugin.v1.plugin_service_pb2_grpc import PluginServiceServicer, add_PluginServiceServicer_to_server

from ilf_common.errors import FailedPreconditionError, InvalidArgumentError, UnimplementedError
from ilf_common.rpc.server import serve
from ilf_common.settings import ServerSettings

Function = Callable[[str, str], Any]
SERVICE_NAME = pb.DESCRIPTOR.services_by_name["PluginService"].full_name


def load_function(name: str) -> Function:
    """The function that `module:function` names, looked up in the working directory too.

    Raises:
        InvalidArgumentError: There is no such module or function.
    """
    module_name, separator, attribute = name.partition(":")
    if not separator or not attribute:
        raise InvalidArgumentError.of("MODULE:FUNCTION", f"{name!r} has no colon between a module and a function")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise InvalidArgumentError.of("MODULE:FUNCTION", f"there is no module {module_name!r}") from error
    function = getattr(module, attribute, None)
    if not callable(function):
        raise InvalidArgumentError.of("MODULE:FUNCTION", f"module {module_name!r} has no function {attribute!r}")
    return function  # type: ignore[no-any-return]


class PluginServicer(PluginServiceServicer):
    """Calls one function, plain or async, for each item; plain ones run in a thread, one after the other."""

    def __init__(self, function: Function, *, score: bool) -> None:
        self._function = function
        self._score = score

    async def GiveFeedback(self, request: pb.GiveFeedbackRequest, context: Any) -> pb.GiveFeedbackResponse:
        """The function's text for each item."""
        if self._score:
            raise UnimplementedError("This plugin scores outputs: it was started with --score.")
        answers = [await self._answer(item) for item in request.items]
        return pb.GiveFeedbackResponse(feedback=[_text(answer) for answer in answers])

    async def ScoreOutputs(self, request: pb.ScoreOutputsRequest, context: Any) -> pb.ScoreOutputsResponse:
        """The function's number for each item."""
        if not self._score:
            raise UnimplementedError("This plugin gives feedback: start it with --score to score outputs.")
        answers = [await self._answer(item) for item in request.items]
        return pb.ScoreOutputsResponse(scores=[_number(answer) for answer in answers])

    async def _answer(self, item: pb.PluginItem) -> Any:
        if inspect.iscoroutinefunction(self._function):
            answer: Awaitable[Any] = self._function(item.context, item.output)
            return await answer
        return await asyncio.to_thread(self._function, item.context, item.output)


async def serve_plugin(
    function: Function,
    *,
    score: bool,
    host: str = "127.0.0.1",
    port: int = 50060,
    token_file: Path | None = None,
    ready: Callable[[int], None] | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT.

    Args:
        function: From context and output to a text, or a number where `score` is set; it must be safe to repeat.
        score: The function scores outputs.
        host: Address to listen on.
        port: 0 takes a free one.
        token_file: Callers must send the token that it holds.
        ready: Called with the port once it serves.
    """

    def register(server: grpc.aio.Server) -> Sequence[str]:
        add_PluginServiceServicer_to_server(PluginServicer(function, score=score), server)
        return [SERVICE_NAME]

    async def nothing() -> None: ...

    settings = ServerSettings(host=host, port=port, token_file=token_file)
    await serve("plugin", settings, register=register, start=nothing, stop=nothing, ready=ready)


def _text(answer: Any) -> str:
    if not isinstance(answer, str):
        raise _wrong_answer("a text", answer)
    return answer


def _number(answer: Any) -> float:
    if isinstance(answer, bool | int | float):
        return float(answer)
    raise _wrong_answer("a number", answer)


def _wrong_answer(wanted: str, answer: Any) -> FailedPreconditionError:
    return FailedPreconditionError(
        f"The plugin's function answered a {type(answer).__name__}, {wanted} is wanted.", reason="PLUGIN_WRONG_ANSWER"
    )
