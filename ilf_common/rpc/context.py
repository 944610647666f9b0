"""What is known about the call that is being answered: its id, its service, the time that is left."""

from __future__ import annotations

import time
import uuid
from contextvars import ContextVar
from dataclasses import dataclass, field

REQUEST_ID_KEY = "x-request-id"
DEFAULT_DOMAIN = "ilf"


@dataclass
class CallContext:
    """One call on its way through a server.

    Attributes:
        component: Name of the answering program, for example `refinement`.
        service: Full gRPC service name.
        method: Method name.
        request_id: Id of the caller's request; a fresh one where the caller sent none.
        deadline: On the clock of `time.monotonic`, None when the caller set none.
        code: Name of the status code that the call ended with.
    """

    component: str
    service: str
    method: str
    request_id: str
    deadline: float | None = None
    code: str = "OK"
    started: float = field(default_factory=time.perf_counter)


_current: ContextVar[CallContext | None] = ContextVar("ilf_call", default=None)


def current_call() -> CallContext | None:
    """The call that this task answers, None outside a server's call."""
    return _current.get()


def enter_call(call: CallContext) -> None:
    """Makes `call` the current one of this task; a task answers one call, so nothing has to be restored."""
    _current.set(call)


def new_request_id() -> str:
    """A fresh request id."""
    return str(uuid.uuid4())


def time_remaining() -> float | None:
    """Seconds until the deadline of the call being answered, for calls made on its behalf; None without one."""
    call = current_call()
    if call is None or call.deadline is None:
        return None
    return max(0.0, call.deadline - time.monotonic())


def current_domain() -> str:
    """Domain of errors raised here, `<component>.ilf`."""
    call = current_call()
    return f"{call.component}.{DEFAULT_DOMAIN}" if call else DEFAULT_DOMAIN
