"""The one interceptor of every server: trace, metrics, access log, token, errors."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import inspect
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

import grpc

from ilf_common import telemetry
from ilf_common.errors import IlfError, InternalError, UnauthenticatedError, UnavailableError
from ilf_common.rpc import status
from ilf_common.rpc.context import REQUEST_ID_KEY, CallContext, enter_call, new_request_id
from ilf_common.rpc.files import WatchedFile

HEALTH_SERVICE = "grpc.health.v1.Health"
_REFLECTION_PREFIX = "grpc.reflection."
_MAX_REQUEST_ID = 128

log = logging.getLogger("ilf.rpc")
access_log = logging.getLogger("ilf.access")

Handler = Callable[[Any, Any], Any]


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every call, whatever its kind (unary or stream, either side).

    Args:
        component: Name of the program; domain of its errors.
        token: File with the tokens, a line each, of which calls must carry one; None where everyone may call.
        started: Whether the service has started; before that its calls are answered UNAVAILABLE.
        access_level: Level of the access log's lines; those of health calls are always DEBUG.
    """

    def __init__(
        self,
        component: str,
        *,
        token: WatchedFile | None = None,
        started: Callable[[], bool] = lambda: True,
        access_level: int = logging.INFO,
    ) -> None:
        self._component = component
        self._token = token
        self._started = started
        self._access_level = access_level

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Puts the wrapped handler in place of the found one; an unknown method stays gRPC's own UNIMPLEMENTED."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        service, _, method = handler_call_details.method.lstrip("/").rpartition("/")
        metadata = _text_metadata(handler_call_details.invocation_metadata)
        make = _MAKERS[(handler.request_streaming, handler.response_streaming)]
        behaviour = getattr(handler, _BEHAVIOURS[(handler.request_streaming, handler.response_streaming)])
        wrap = self._wrap_stream if handler.response_streaming else self._wrap_unary
        return make(
            wrap(behaviour, service, method, metadata),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _wrap_unary(self, behaviour: Handler, service: str, method: str, metadata: dict[str, str]) -> Handler:
        async def answer(request: Any, context: Any) -> Any:
            async with self._around(service, method, metadata, context):
                return await behaviour(request, context)

        return answer

    def _wrap_stream(self, behaviour: Handler, service: str, method: str, metadata: dict[str, str]) -> Handler:
        # A coroutine that writes, not a generator: a cancelled call then closes the service's generator at once.
        async def answer(request: Any, context: Any) -> None:
            async with self._around(service, method, metadata, context):
                answering = behaviour(request, context)
                if inspect.isawaitable(answering):
                    await answering
                    return
                async with contextlib.aclosing(answering) as responses:
                    async for response in responses:
                        await context.write(response)

        return answer

    @contextlib.asynccontextmanager
    async def _around(self, service: str, method: str, metadata: dict[str, str], context: Any) -> AsyncIterator[None]:
        call = CallContext(
            component=self._component,
            service=service,
            method=method,
            request_id=metadata.get(REQUEST_ID_KEY, "")[:_MAX_REQUEST_ID] or new_request_id(),
            deadline=_deadline(context),
        )
        enter_call(call)
        level = logging.DEBUG if service == HEALTH_SERVICE else self._access_level
        with telemetry.traced(call, metadata), telemetry.measured(call), _access_line(call, level):
            async with _errors_as_status(call, context):
                self._admit(service, metadata)
                yield

    def _admit(self, service: str, metadata: dict[str, str]) -> None:
        if service == HEALTH_SERVICE:
            return
        if self._token is not None:
            _check_token(self._token.read().split(), metadata.get("authorization", ""))
        if not self._started() and not service.startswith(_REFLECTION_PREFIX):
            raise UnavailableError(
                f"{self._component} is starting; try again soon.", reason="STARTING", retry_after=1.0
            )


_BEHAVIOURS = {
    (False, False): "unary_unary",
    (False, True): "unary_stream",
    (True, False): "stream_unary",
    (True, True): "stream_stream",
}
_MAKERS: dict[tuple[bool, bool], Callable[..., Any]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def _text_metadata(metadata: Any) -> dict[str, str]:
    return {key: value for key, value in metadata or () if isinstance(value, str)}


def _deadline(context: Any) -> float | None:
    remaining = context.time_remaining()
    return None if remaining is None else time.monotonic() + remaining


def _check_token(valid: Sequence[bytes], authorization: str) -> None:
    scheme, _, text = authorization.partition(" ")
    token = text.strip().encode()
    # All are compared, so that the time does not tell which one was close.
    known = [hmac.compare_digest(token, one) for one in valid]
    if scheme.lower() != "bearer" or not token or not any(known):
        raise UnauthenticatedError(
            "This server wants a valid token in `authorization: Bearer …`; set token_file at the client.",
            reason="TOKEN_INVALID" if authorization else "TOKEN_MISSING",
        )


@contextlib.contextmanager
def _access_line(call: CallContext, level: int) -> Iterator[None]:
    try:
        yield
    finally:
        duration = round((time.perf_counter() - call.started) * 1000, 2)
        access_log.log(level, "call", extra={"code": call.code, "duration_ms": duration})


@contextlib.asynccontextmanager
async def _errors_as_status(call: CallContext, context: Any) -> AsyncIterator[None]:
    try:
        yield
    except asyncio.CancelledError:
        remaining = context.time_remaining()
        call.code = "CANCELLED" if remaining is None or remaining > 0 else "DEADLINE_EXCEEDED"
        raise
    except grpc.aio.AbortError:
        call.code = grpc_code_name(context.code())
        raise
    except IlfError as error:
        await _abort(call, context, error)
    except Exception:
        log.exception("A call failed in a way that nobody foresaw.")
        fault = InternalError(
            "The server failed; its log tells why under the request id in the details.",
            metadata={"request_id": call.request_id},
        )
        await _abort(call, context, fault)


async def _abort(call: CallContext, context: Any, error: IlfError) -> None:
    code = status.status_code(error)
    call.code = code.name
    packed = status.to_trailer(error)
    await context.abort(code, packed.message, ((status.STATUS_DETAILS_KEY, packed.SerializeToString()),))


def grpc_code_name(code: Any) -> str:
    """Name of a code as gRPC keeps it, an enum member or a bare number."""
    if isinstance(code, grpc.StatusCode):
        return code.name
    return next((known.name for known in grpc.StatusCode if known.value[0] == code), "UNKNOWN")
