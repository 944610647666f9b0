"""Typed settings: one frozen tree per service, read from a YAML file and environment variables.

`ILF_CONFIG_FILE` names a YAML file with one section per service; `ILF_<SERVICE>__<GROUP>__<FIELD>` overlays single
values (lists and mappings as JSON). What the tree does not know is refused: a typing error never passes in silence.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ilf_common.errors import FieldViolation, InvalidArgumentError

CONFIG_FILE_VARIABLE = "ILF_CONFIG_FILE"
Port = Annotated[int, Field(ge=0, le=65535)]


class SettingsBase(BaseModel):
    """Base of every settings tree: frozen, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


SettingsT = TypeVar("SettingsT", bound=SettingsBase)


class ServerSettings(SettingsBase):
    """How a gRPC server listens.

    Attributes:
        host: Address to listen on.
        port: TCP port; 0 takes a free one.
        metrics_port: Port of the Prometheus page; 0 switches it off.
        health_port: Port of gRPC health alone, in plain text, for a kubelet's probes; 0 switches it off.
        max_message_bytes: Largest message in either direction.
        max_concurrent_rpcs: Calls at work at once; further ones are refused with RESOURCE_EXHAUSTED.
        drain_seconds: Time that running calls have to finish after SIGTERM.
        health_check_seconds: Pause between two health checks of the service.
        reflection: Offer gRPC server reflection.
        tls_cert_file: PEM certificate chain; with `tls_key_file` it switches TLS on. Replaced files are picked up.
        tls_key_file: PEM private key.
        tls_client_ca_file: PEM authorities; clients must then show a certificate of one of them.
        token_file: File with the bearer token that every call (health excepted) must carry; with one of its lines.
    """

    host: str = "127.0.0.1"
    port: Port
    metrics_port: Port = 0
    health_port: Port = 0
    max_message_bytes: int = Field(default=64 * 1024 * 1024, gt=0)
    max_concurrent_rpcs: int = Field(default=1000, gt=0)
    drain_seconds: float = Field(default=20.0, ge=0)
    health_check_seconds: float = Field(default=5.0, gt=0)
    reflection: bool = True
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    tls_client_ca_file: Path | None = None
    token_file: Path | None = None

    @model_validator(mode="after")
    def _tls_is_whole(self) -> ServerSettings:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file belong together: set both or neither")
        if self.tls_client_ca_file is not None and self.tls_cert_file is None:
            raise ValueError("tls_client_ca_file needs tls_cert_file and tls_key_file")
        return self


class TelemetrySettings(SettingsBase):
    """Where traces go and how much is logged.

    Attributes:
        otlp_endpoint: URL of an OTLP/gRPC collector; None exports nothing (trace ids still travel).
        log_level: Least severity that is written.
    """

    otlp_endpoint: str | None = None
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")


class StoreSettings(SettingsBase):
    """Where artifacts lie.

    Attributes:
        root: A local folder, `s3://…` or `gs://…`.
    """

    root: str = ".ilf/artifacts"


def load_settings(model: type[SettingsT], service: str, environment: Mapping[str, str] = os.environ) -> SettingsT:
    """Reads the settings of one service.

    Args:
        model: The settings tree.
        service: Name of the section and of the variables, for example `refinement`.
        environment: Where variables are read from.

    Raises:
        InvalidArgumentError: A file that is no YAML mapping, an unknown field or variable, or a value of the wrong
            kind; each violation names its field or variable.
    """
    values = _file_section(environment.get(CONFIG_FILE_VARIABLE), service)
    variables = _variables(model, service, environment)
    for path, value in variables.values():
        _overlay(values, path, value)
    try:
        return model.model_validate(_over_defaults(model, values))
    except ValidationError as error:
        names = {path: name for name, (path, _) in variables.items()}
        raise InvalidArgumentError(
            violations=[_violation(service, names, entry["loc"], entry["msg"]) for entry in error.errors()]
        ) from None


def _file_section(file: str | None, service: str) -> dict[str, Any]:
    if not file:
        return {}
    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidArgumentError.of(CONFIG_FILE_VARIABLE, f"{file} cannot be read as YAML: {error}") from error
    if content is None:
        return {}
    section = content.get(service, {}) if isinstance(content, dict) else None
    if not isinstance(section, dict):
        raise InvalidArgumentError.of(
            CONFIG_FILE_VARIABLE, f"{file} needs one mapping per service; that of {service!r} is none"
        )
    return section


def _variables(
    model: type[BaseModel], service: str, environment: Mapping[str, str]
) -> dict[str, tuple[tuple[str, ...], Any]]:
    """The service's variables with their paths in the tree and their values."""
    prefix = f"ILF_{service.upper()}__"
    found: dict[str, tuple[tuple[str, ...], Any]] = {}
    unknown = []
    for name in sorted(environment):
        if not name.startswith(prefix):
            continue
        path = tuple(name.removeprefix(prefix).lower().split("__"))
        if _knows(model, path):
            found[name] = (path, _parse(environment[name]))
        else:
            unknown.append(FieldViolation(name, f"is no setting of {service}; check the spelling or unset it"))
    if unknown:
        raise InvalidArgumentError(violations=unknown)
    return found


def _knows(group: type, path: tuple[str, ...]) -> bool:
    fields = get_type_hints(group)
    if path[0] not in fields or len(path) == 1:
        return path[0] in fields
    return any(_knows(inner, path[1:]) for inner in _groups(fields[path[0]]))


def _groups(annotation: Any) -> list[type]:
    """The settings groups that a field's type allows (`Group`, or the `Group` in `Group | None`)."""
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    return [
        kind for kind in candidates if isinstance(kind, type) and (issubclass(kind, BaseModel) or is_dataclass(kind))
    ]


def _parse(text: str) -> Any:
    """JSON for lists and mappings (an IPv6 host in brackets is no JSON, and stays text); text otherwise."""
    if text[:1] not in ("[", "{"):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _overlay(values: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    group = values
    for name in path[:-1]:
        inner = group.get(name)
        group[name] = dict(inner) if isinstance(inner, dict) else {}
        group = group[name]
    group[path[-1]] = value


def _over_defaults(model: type[BaseModel], values: dict[str, Any]) -> dict[str, Any]:
    """A group that is given in part keeps the rest of the tree's own default for it, not of the group's class."""
    merged = dict(values)
    for name, field in model.model_fields.items():
        if isinstance(values.get(name), dict):
            merged[name] = _merged(field.get_default(call_default_factory=True), values[name])
    return merged


def _merged(default: Any, value: Any) -> Any:
    if not isinstance(value, dict) or not (isinstance(default, BaseModel) or is_dataclass(default)):
        return value
    defaults = vars(default)
    return {**defaults, **{name: _merged(defaults.get(name), inner) for name, inner in value.items()}}


def _violation(
    service: str, names: Mapping[tuple[str, ...], str], location: tuple[int | str, ...], problem: str
) -> FieldViolation:
    path = tuple(str(part) for part in location)
    source = next((names[path[:end]] for end in range(len(path), 0, -1) if path[:end] in names), None)
    return FieldViolation(source or ".".join((service, *path)), problem)
