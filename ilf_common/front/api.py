"""What a front has to know of the service that it stands for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf import descriptor, message_factory
from google.protobuf.message import Message

from ilf_common.front.journal import Journal, Step


class ControlRule(Protocol):
    """The journal after a control call that all workers answered."""

    def __call__(self, journal: Journal, request: Any, response: Any) -> Journal:
        """Says it; pure."""
        ...


def _as_it_is(journal: Journal, resource: Any) -> Any:
    return resource


@dataclass(frozen=True)
class FrontedApi:
    """A service as its front sees it; calls that are named nowhere here go to one worker.

    Attributes:
        pool: Name of the pool.
        service: The service's descriptor.
        controls: What each control call does to the journal.
        undo: The call that takes a key of the journal out of a worker; None where there is none.
        list_method: Lists resources that have names.
        get_method: Answers one of them.
        keys: Keys of the journal that a request may depend on.
        resource_key: The key whose resource a name means, for reads while no worker is awake.
        at_rest: A resource as it is told while no worker has loaded it.
    """

    pool: str
    service: descriptor.ServiceDescriptor
    list_method: str
    get_method: str | None = None
    controls: Mapping[str, ControlRule] | None = None
    undo: Callable[[str], Step | None] = lambda key: None
    keys: Callable[[Any], Sequence[str]] = lambda request: ()
    resource_key: Callable[[Journal, str], str] = lambda journal, name: name
    at_rest: Callable[[Journal, Any], Any] = _as_it_is

    def is_control(self, method: str) -> bool:
        """Whether a call changes what all workers serve."""
        return method in (self.controls or {})

    def method(self, name: str) -> Method:
        """One method."""
        return Method(self.service.methods_by_name[name])


class Method:
    """A method by its descriptor: names and message types."""

    def __init__(self, found: descriptor.MethodDescriptor) -> None:
        self.name = str(found.name)
        self.path = f"/{found.containing_service.full_name}/{found.name}"
        self.request: type[Message] = message_factory.GetMessageClass(found.input_type)
        self.response: type[Message] = message_factory.GetMessageClass(found.output_type)
        self.streams = bool(found.server_streaming)
        self.changes = "request_id" in found.input_type.fields_by_name
