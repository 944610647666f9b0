"""Frozen dataclasses to plain mappings and back, in the shape of proto JSON with the proto's field names.

One codec serves the store and the wire: what is kept in the database is what a client sees.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from services.orchestrator.models import Seconds

ModelT = TypeVar("ModelT")


def to_plain(value: Any) -> Any:
    """A JSON value: dataclasses become mappings without their None fields, tuples lists, times RFC 3339."""
    if is_dataclass(value) and not isinstance(value, type):
        pairs = ((item.name, getattr(value, item.name)) for item in fields(value))
        return {name: to_plain(inner) for name, inner in pairs if inner is not None}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Seconds):
        return f"{float(value):.3f}s"
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, Mapping):
        return {str(name): to_plain(inner) for name, inner in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(inner) for inner in value]
    return value


def from_plain(model: type[ModelT], data: Mapping[str, Any]) -> ModelT:
    """The dataclass that `to_plain` (or proto JSON) describes; absent fields take their defaults.

    Raises:
        ValueError: A value is not of its field's kind, or a field without default is absent.
    """
    hints = _hints(model)  # type: ignore[arg-type]
    values = {name: _value(hint, data[name]) for name, hint in hints.items() if name in data}
    required = {f.name for f in fields(model) if f.default is MISSING and f.default_factory is MISSING}  # type: ignore[arg-type]
    if missing := required - values.keys():
        raise ValueError(f"{model.__name__} lacks {sorted(missing)}")
    return model(**values)


def digest_of(value: Any) -> str:
    """sha256 of a value's plain form; the order of mapping keys does not matter."""
    text = json.dumps(to_plain(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _hints(model: type) -> dict[str, Any]:
    hints = get_type_hints(model)
    return {item.name: hints[item.name] for item in fields(model)}


def _value(hint: Any, value: Any) -> Any:
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        inner = next(kind for kind in get_args(hint) if kind is not NoneType)
        return None if value is None else _value(inner, value)
    if origin is tuple:
        return tuple(_value(get_args(hint)[0], item) for item in value)
    if origin is not None and issubclass(origin, Mapping):
        return {str(name): _value(get_args(hint)[1], item) for name, item in value.items()}
    if is_dataclass(hint):
        return from_plain(hint, value)  # type: ignore[arg-type]
    if hint is Seconds:
        return Seconds(str(value).removesuffix("s"))
    if hint is datetime:
        return datetime.fromisoformat(value)
    return hint(value)
