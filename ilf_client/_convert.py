"""The one seam between protos and the SDK's values: fields of the same name are carried over by type.

A value class may leave out fields of its message; it may not have any that the message lacks (tested). None in a
value leaves the field unset; an unset or zero field becomes None where the value class says that it may be None.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, cast, get_args, get_origin

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from ilf_common.errors import IlfError, InvalidArgumentError
from ilf_common.rpc.status import from_status
from ilf_common.rpc.templates import template_from_proto
from ilf_common.templates import PromptTemplate

M = TypeVar("M", bound=Message)
T = TypeVar("T")
E = TypeVar("E", bound=Enum)

Reader = Callable[[Any], Any]


def to_proto(value: object, message: M) -> M:
    """Fills a message from a value and answers it.

    Raises:
        InvalidArgumentError: A field has the wrong type or does not fit its range; the violation names it.
    """
    _fill(value, message, "")
    return message


def from_proto(message: Message, cls: type[T]) -> T:
    """The value of a message."""
    return cast(T, _reader_of(cast(Hashable, cls))(message))


def template_to_proto(template: PromptTemplate | str | None, message: Message) -> None:
    """Fills a template message; a string names a template that the server ships."""
    target = cast(Any, message)
    if isinstance(template, str):
        target.name = template
    elif template is not None:
        target.name, target.text, target.target_prefix = template.name, template.text, template.target_prefix
        target.positive_answers.extend(template.positive_answers)
        target.negative_answers.extend(template.negative_answers)


def _fill(value: object, message: Message, path: str) -> None:
    descriptors = message.DESCRIPTOR.fields_by_name
    for field in fields(cast(Any, value)):
        content = getattr(value, field.name)
        if content is None:
            continue
        where = f"{path}{field.name}"
        try:
            _fill_field(content, message, cast(FieldDescriptor, descriptors[field.name]), where)
        except (TypeError, ValueError) as error:
            raise InvalidArgumentError.of(where, f"{type(content).__name__} value does not fit: {error}") from error


def _fill_field(content: Any, message: Message, descriptor: FieldDescriptor, where: str) -> None:
    name = descriptor.name
    if descriptor.message_type is None:
        if isinstance(content, Enum):
            setattr(message, name, _enum_number(descriptor, content))
        elif descriptor.is_repeated:
            if isinstance(content, str):
                raise TypeError("a list of strings is wanted")
            getattr(message, name).extend(content)
        else:
            setattr(message, name, content)
    elif descriptor.is_repeated:
        for index, element in enumerate(content):
            _fill(element, getattr(message, name).add(), f"{where}[{index}].")
    elif isinstance(content, PromptTemplate | str):
        template_to_proto(content, getattr(message, name))
    elif isinstance(content, timedelta):
        getattr(message, name).FromTimedelta(content)
    else:
        child = getattr(message, name)
        child.SetInParent()
        _fill(content, child, f"{where}.")


def _enum_number(descriptor: FieldDescriptor, member: Enum) -> int:
    enum = descriptor.enum_type
    assert enum is not None
    return enum.values_by_name[_enum_prefix(enum) + member.name].number


def _enum_prefix(enum: EnumDescriptor) -> str:
    return enum.values_by_number[0].name.removesuffix("UNSPECIFIED")


@cache
def _reader_of(cls: type) -> Reader:
    hints = typing.get_type_hints(cls)
    readers = {field.name: _field_reader(field.name, hints[field.name]) for field in fields(cls)}

    def read(message: Any) -> Any:
        return cls(**{name: reader(message) for name, reader in readers.items()})

    return read


def _field_reader(name: str, hint: Any) -> Reader:
    optional, hint = _split_optional(hint)
    convert = _value_reader(hint)

    def read(message: Any) -> Any:
        if not optional:
            return convert(getattr(message, name))
        descriptor = message.DESCRIPTOR.fields_by_name[name]
        if descriptor.has_presence:
            return convert(getattr(message, name)) if message.HasField(name) else None
        return convert(getattr(message, name)) if getattr(message, name) else None

    return _enum_reader(name, hint) if isinstance(hint, type) and issubclass(hint, Enum) else read


def _enum_reader(name: str, enum_class: type[E]) -> Callable[[Any], E]:
    def read(message: Any) -> E:
        descriptor = message.DESCRIPTOR.fields_by_name[name].enum_type
        number = getattr(message, name)
        if number not in descriptor.values_by_number:  # a newer server's value
            return enum_class["UNSPECIFIED"]
        return enum_class[descriptor.values_by_number[number].name.removeprefix(_enum_prefix(descriptor))]

    return read


def _split_optional(hint: Any) -> tuple[bool, Any]:
    if get_origin(hint) not in (Union, types.UnionType):
        return False, hint
    members = [member for member in get_args(hint) if member is not types.NoneType]
    # `PromptTemplate | str`: the message says which it is.
    return len(members) < len(get_args(hint)), PromptTemplate if PromptTemplate in members else members[0]


def _value_reader(hint: Any) -> Reader:
    origin = get_origin(hint)
    if origin is Sequence:
        convert = _value_reader(get_args(hint)[0])
        return lambda values: tuple(map(convert, values))
    if origin is Mapping:
        convert = _value_reader(get_args(hint)[1])
        return lambda values: {key: convert(values[key]) for key in sorted(values)}
    if hint is PromptTemplate:
        return _read_template
    if hint is datetime:
        return lambda timestamp: timestamp.ToDatetime(tzinfo=UTC)
    if hint is timedelta:
        return lambda duration: duration.ToTimedelta()
    if hint is IlfError:
        return from_status
    if is_dataclass(hint):
        return lambda message: _reader_of(cast(type, hint))(message)
    return _same


def _same(value: Any) -> Any:
    return value


def _read_template(message: Any) -> PromptTemplate | str | None:
    if not message.text:
        return str(message.name) or None
    return template_from_proto(message)
