"""The form of a run: made of the fields of `RunSpec`, so that form and YAML file are one schema."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from datetime import timedelta
from enum import Enum
from typing import Any, Union, get_args, get_origin

import yaml

from ilf_client.models.specs import RunSpec
from ilf_common.errors import FieldViolation, InvalidArgumentError
from ilf_common.templates import PromptTemplate

MAX_YAML = 200_000
# A preview's rows are asked for beside the button that starts it.
_LEFT_OUT = ("preview_rows",)
_ENTRY = re.compile(r"^([a-z_, ]+): (.*(?:\n +.*)*)", re.MULTILINE)
_WORDS = {"yes": True, "no": False}
_LONG = ("guidelines",)


@dataclass(frozen=True)
class Input:
    """One field of the form.

    Attributes:
        path: As in the YAML, with dots.
        kind: "text", "long" (a text of several lines), "whole", "number", "choice", "lines" (a text each), or "yaml".
        choices: What may be chosen.
        help: What the field means.
        value: What stands in it.
        wrong: What is wrong with that.
    """

    path: str
    kind: str
    choices: Sequence[str]
    help: str
    value: str
    wrong: str

    @property
    def label(self) -> str:
        """The field's own name."""
        return self.path.rpartition(".")[2]


@dataclass(frozen=True)
class Group:
    """Fields that belong together.

    Attributes:
        path: As in the YAML; empty for the whole.
        help: What the group is for.
        inputs: Its own fields.
        groups: The groups within.
    """

    path: str
    help: str
    inputs: Sequence[Input]
    groups: Sequence[Group]

    @property
    def is_filled(self) -> bool:
        """Something in it is set or wrong."""
        return any(entry.value or entry.wrong for entry in self.inputs) or any(group.is_filled for group in self.groups)


def spec_form(data: Mapping[str, Any], wrong: Mapping[str, str]) -> Group:
    """The form with what is set and what is wrong; problems inside a YAML field stand at that field.

    Args:
        data: As in a run's YAML file; defaults may be left out.
        wrong: Problems by path.
    """
    return _group(RunSpec, data, "", "", wrong)


def unplaced(form: Group, wrong: Mapping[str, str]) -> dict[str, str]:
    """Problems that no field of the form shows."""
    shown = {path for entry in _inputs(form) for path in wrong if _is_within(path, entry.path)}
    return {path: problem for path, problem in wrong.items() if path not in shown}


def read_form(values: Mapping[str, str]) -> dict[str, Any]:
    """The data of a form that was sent; empty fields are not set.

    Raises:
        InvalidArgumentError: A field that holds YAML holds none.
    """
    data: dict[str, Any] = {}
    wrong: list[FieldViolation] = []
    for entry in _inputs(spec_form({}, {})):
        text = values.get(entry.path, "").replace("\r\n", "\n")
        if not text.strip():
            continue
        try:
            _put(data, entry.path.split("."), _value(entry.kind, text))
        except InvalidArgumentError as error:
            wrong += [FieldViolation(entry.path, violation.description) for violation in error.violations]
    if wrong:
        raise InvalidArgumentError(violations=wrong)
    return data


def as_typed(values: Mapping[str, str]) -> dict[str, Any]:
    """The data of a form as it was typed, understood or not, so that nothing is lost where something is wrong."""
    data: dict[str, Any] = {}
    for entry in _inputs(spec_form({}, {})):
        if values.get(entry.path):
            _put(data, entry.path.split("."), values[entry.path])
    return data


def read_text(text: str) -> Any:
    """YAML that came from a browser; aliases are refused, because a few lines of them are endlessly much data.

    Raises:
        InvalidArgumentError: It is no YAML, too long, or has aliases.
    """
    if len(text) > MAX_YAML:
        raise InvalidArgumentError.of("yaml", f"has {len(text):,} characters; {MAX_YAML:,} are the most")
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise InvalidArgumentError.of("yaml", "has aliases (*name); write the values out")
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InvalidArgumentError.of("yaml", f"is no YAML{line}: {error.problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidArgumentError.of(
            "yaml", "is no YAML: it has characters or values that YAML does not know"
        ) from error


def as_yaml(data: Mapping[str, Any]) -> str:
    """The data as the text of a YAML file."""
    return yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True) if data else ""


def without_defaults(data: Mapping[str, Any], kind: type = RunSpec) -> dict[str, Any]:
    """The data without what a field holds anyway, and without a preview's rows."""
    kept: dict[str, Any] = {}
    hints = typing.get_type_hints(kind)
    for field in fields(kind):
        value = data.get(field.name)
        if field.name in _LEFT_OUT or value is None or value == field.default:
            continue
        inner = _single(hints[field.name])
        if is_dataclass(inner) and inner is not PromptTemplate and isinstance(value, Mapping):
            value = without_defaults(value, typing.cast(type, inner))
            if not value:
                continue
        kept[field.name] = value
    return kept


def _group(kind: type, data: Any, path: str, about: str, wrong: Mapping[str, str]) -> Group:
    hints = typing.get_type_hints(kind)
    meaning = _meanings(kind)
    inputs, groups = [], []
    for field in fields(kind):
        where = f"{path}.{field.name}" if path else field.name
        if where in _LEFT_OUT:
            continue
        value = data.get(field.name) if isinstance(data, Mapping) else None
        inner = _single(hints[field.name])
        if is_dataclass(inner) and not _is_template(hints[field.name]):
            if isinstance(value, str):  # a ranker by its name alone
                value = {"name": value}
            groups.append(_group(typing.cast(type, inner), value, where, meaning.get(field.name, ""), wrong))
        else:
            is_default = field.default is not MISSING and value == field.default
            problem = "; ".join(text for key, text in wrong.items() if _is_within(key, where))
            shape, choices = ("long", ()) if field.name in _LONG else _kind(hints[field.name])
            text = "" if is_default else _text(shape, value)
            inputs.append(Input(where, shape, choices, meaning.get(field.name, ""), text, problem))
    return Group(path, about or _summary(kind), inputs, groups)


def _kind(hint: Any) -> tuple[str, Sequence[str]]:
    inner = _single(hint)
    if _is_template(hint):
        return "yaml", ()
    if get_origin(inner) is Sequence:
        return ("lines" if get_args(inner)[0] is str else "yaml"), ()
    if inner is bool:
        return "choice", tuple(_WORDS)
    if isinstance(inner, type) and issubclass(inner, Enum):
        return "choice", tuple(str(member.value) for member in inner if member.name != "UNSPECIFIED")
    return {int: "whole", float: "number", str: "text", timedelta: "text"}[inner], ()


def _text(kind: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if kind == "lines" and isinstance(value, list) and all(_is_plain_line(line) for line in value):
        return "\n".join(value)
    if kind in ("lines", "yaml") and not isinstance(value, str):
        return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=kind == "lines")
    return str(value)


def _is_plain_line(line: Any) -> bool:
    return isinstance(line, str) and line == line.strip() and "\n" not in line and not line.startswith("[")


def _value(kind: str, text: str) -> Any:
    if kind == "yaml" or (kind == "lines" and text.lstrip().startswith("[")):
        return read_text(text)
    if kind == "lines":
        return [line.strip() for line in text.splitlines() if line.strip()]
    if kind == "choice":
        return _WORDS.get(text, text)
    if kind == "whole":
        return int(text) if re.fullmatch(r"\s*-?\d{1,18}\s*", text) else text
    return text if kind == "long" else text.strip()


def _put(data: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for name in path[:-1]:
        data = data.setdefault(name, {})
    data[path[-1]] = value


def _inputs(group: Group) -> list[Input]:
    return [*group.inputs, *(entry for inner in group.groups for entry in _inputs(inner))]


def _is_within(path: str, outer: str) -> bool:
    return path == outer or path.startswith((f"{outer}.", f"{outer}["))


def _single(hint: Any) -> Any:
    members = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return next(member for member in members if member is not types.NoneType)


def _is_template(hint: Any) -> bool:
    return PromptTemplate in get_args(hint)


def _summary(kind: type) -> str:
    return (inspect.getdoc(kind) or "").partition("\n\n")[0].replace("\n", " ")


def _meanings(kind: type) -> dict[str, str]:
    """What the fields mean: the entries of the class's own description."""
    about = (inspect.getdoc(kind) or "").partition("Attributes:")[2]
    found: dict[str, str] = {}
    for names, text in _ENTRY.findall(inspect.cleandoc(about)):
        found |= dict.fromkeys(names.split(", "), " ".join(text.replace("`", "").split()))
    return found
