"""From YAML and dotted overrides to the SDK's values; errors name the key and the nearest right one."""

from __future__ import annotations

import difflib
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, Union, cast, get_args, get_origin

import yaml

from ilf_client.models.inference import RankerSpec
from ilf_common.errors import FieldViolation, InvalidArgumentError, require
from ilf_common.templates import PromptTemplate, load_template

T = TypeVar("T")

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)?")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, None: 1}
_TEMPLATE_KEYS = ("name", "text", "target_prefix", "positive_answers", "negative_answers")


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping.

    Raises:
        InvalidArgumentError: The file cannot be read, or is no mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidArgumentError.of(str(path), f"cannot be read as YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InvalidArgumentError.of(str(path), f"holds a {type(content).__name__}, a mapping is wanted")
    return content


def apply_overrides(data: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of `data` with `a.b=value` applied; values are YAML, list elements are addressed by their number.

    Raises:
        InvalidArgumentError: An override without `=`, or one that leads through a plain value.
    """
    result = cast(dict[str, Any], _copied(data))
    for override in overrides:
        path, separator, text = override.partition("=")
        if not separator or not path:
            raise InvalidArgumentError.of("--set", f"{override!r} is not KEY.KEY=VALUE")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InvalidArgumentError.of(path, f"{text!r} is not YAML") from error
        _set(result, path.split("."), value, path)
    return result


def build(cls: type[T], data: Mapping[str, Any], *, folder: Path | None) -> T:
    """A value of a class from plain data.

    Keys are field names, enums their lower-case names, times `15m` or seconds. A template is the path of a template
    file below `folder`, the name of one that the server ships, or a mapping with `name` and `text`. Without a folder,
    as for data that come from elsewhere, no file is read.

    Raises:
        InvalidArgumentError: With a violation for each wrong key and value.
    """
    builder = _Builder(folder)
    value = builder.record(cls, data, "")
    if builder.violations:
        raise InvalidArgumentError(violations=builder.violations)
    return cast(T, value)


def plain(value: object) -> Any:
    """The data that `build` makes the value of: JSON and YAML types only, what is not set left out."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    if isinstance(value, datetime):
        return value.isoformat()
    if is_dataclass(value):
        pairs = ((field.name, plain(getattr(value, field.name))) for field in fields(value))
        return {name: content for name, content in pairs if not _is_unset(content)}
    if isinstance(value, Mapping):
        return {str(key): plain(content) for key, content in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(content) for content in value]
    return value


def suggestion(word: str, known: Sequence[str]) -> str:
    """What to say of an unknown word: the nearest known one, or all of them."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}"


def _is_unset(content: Any) -> bool:
    return content is None or content in ({}, [], "", "unspecified")


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(content) for key, content in value.items()}
    return [_copied(content) for content in value] if isinstance(value, list) else value


def _set(data: Any, path: Sequence[str], value: Any, where: str) -> None:
    head, *rest = path
    if isinstance(data, list):
        if not head.isdigit() or int(head) >= len(data):
            raise InvalidArgumentError.of(where, f"the list has elements 0 to {len(data) - 1}, not {head!r}")
        key: Any = int(head)
    else:
        key = head
    if not rest:
        data[key] = value
        return
    if isinstance(data, dict) and not isinstance(data.get(key), dict | list):
        if data.get(key) is not None:
            raise InvalidArgumentError.of(where, f"{head!r} is the value {data[key]!r}, not a group of values")
        data[key] = {}
    _set(data[key], rest, value, where)


class _Builder:
    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.violations: list[FieldViolation] = []

    def record(self, cls: type, data: Any, path: str) -> Any:
        if not isinstance(data, Mapping):
            return self._wrong(path, f"is {data!r}, a mapping is wanted")
        hints = typing.get_type_hints(cls)
        names = [field.name for field in fields(cls)]
        values = {}
        for key, content in data.items():
            where = f"{path}.{key}" if path else str(key)
            if key not in names:
                self._wrong(where, f"is unknown; {suggestion(str(key), names)}")
            elif content is not None:
                values[key] = self.value(hints[key], content, where)
        try:
            return cls(**values)
        except TypeError:
            missing = [name for name in _required(cls) if name not in values]
            return self._wrong(path or cls.__name__, f"needs {', '.join(missing)}") if missing else None

    def value(self, hint: Any, data: Any, path: str) -> Any:
        members = [m for m in _members(hint) if m is not types.NoneType]
        if PromptTemplate in members:
            return self._template(data, path)
        kind = members[0]
        if get_origin(kind) is Sequence:
            if not isinstance(data, list):
                return self._wrong(path, f"is {data!r}, a list is wanted")
            element = get_args(kind)[0]
            return tuple(self.value(element, content, f"{path}[{index}]") for index, content in enumerate(data))
        if kind is RankerSpec and isinstance(data, str):
            return RankerSpec(name=data)
        if is_dataclass(kind):
            return self.record(cast(type, kind), data, path)
        if isinstance(kind, type) and issubclass(kind, Enum):
            return self._enum(kind, data, path)
        return self._scalar(kind, data, path)

    def _enum(self, kind: type[Enum], data: Any, path: str) -> Any:
        known = [str(member.value) for member in kind if member.name != "UNSPECIFIED"]
        if str(data).lower() in known:
            return kind(str(data).lower())
        return self._wrong(path, f"is {data!r}; {suggestion(str(data), known)}")

    def _scalar(self, kind: Any, data: Any, path: str) -> Any:
        convert = {bool: _bool, int: _int, float: _float, str: _str, timedelta: _duration}[kind]
        value = convert(data)
        if value is None:
            names = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a text"}
            return self._wrong(path, f"is {data!r}, {names.get(kind, 'a time such as 15m')} is wanted")
        return value

    def _template(self, data: Any, path: str) -> Any:
        try:
            if isinstance(data, str):
                return self._template_file(data)
            if isinstance(data, Mapping):
                unknown = [str(key) for key in data if key not in _TEMPLATE_KEYS]
                if unknown:
                    return self._wrong(f"{path}.{unknown[0]}", f"is unknown; {suggestion(unknown[0], _TEMPLATE_KEYS)}")
                return _inline_template(data, path)
        except InvalidArgumentError as error:
            return self._wrong(path, "; ".join(violation.description for violation in error.violations))
        return self._wrong(path, f"is {data!r}, a template's path, name or mapping is wanted")

    def _template_file(self, text: str) -> PromptTemplate | str:
        is_path = text.endswith((".yaml", ".yml"))
        if self.folder is None:
            require(not is_path, "template", f"{text!r} is a file; give the template itself, with name and text")
            return text
        for path in (self.folder / text, Path(text)):
            if path.is_file():
                return load_template(path)
        require(not is_path, "template", f"there is no file {self.folder / text}")
        return text

    def _wrong(self, path: str, description: str) -> None:
        self.violations.append(FieldViolation(path or "config", description))


def _inline_template(data: Mapping[str, Any], path: str) -> PromptTemplate:
    texts = {key: str(data[key]) for key in ("name", "text", "target_prefix") if data.get(key) is not None}
    answers = {key: tuple(map(str, data.get(key) or ())) for key in ("positive_answers", "negative_answers")}
    return PromptTemplate(**{"name": path.rpartition(".")[0] or path, "text": "", **texts}, **answers)  # type: ignore[arg-type]


def _members(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _required(cls: type) -> list[str]:
    return [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]


def _bool(data: Any) -> bool | None:
    return data if isinstance(data, bool) else None


def _int(data: Any) -> int | None:
    if isinstance(data, float) and data.is_integer():
        return int(data)
    return data if isinstance(data, int) and not isinstance(data, bool) else None


def _float(data: Any) -> float | None:
    # YAML reads 1e-5 as a text.
    try:
        value = None if isinstance(data, bool) else float(data)
    except (TypeError, ValueError):
        return None
    return value if value is not None and math.isfinite(value) else None


def _str(data: Any) -> str | None:
    if isinstance(data, bool) or not isinstance(data, str | int | float):
        return None
    return str(data)


def _duration(data: Any) -> timedelta | None:
    match = _DURATION.fullmatch(str(data).strip())
    return timedelta(seconds=float(match[1]) * _SECONDS[match[2]]) if match else None
