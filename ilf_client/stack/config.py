"""The configuration of all services in one file, with what `ilf up` fills in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ilf_client.config import apply_overrides, read_yaml, suggestion
from ilf_client.endpoints import CONSOLE_PORT, DEFAULT_PORTS, Endpoints
from ilf_client.stack.console import CONSOLE, ConsolePlace
from ilf_common.errors import FieldViolation, InvalidArgumentError

SERVICES = tuple(DEFAULT_PORTS)
DEFAULT_CONFIG = Path("ilf.yaml")
_DEFAULT_HOST = "127.0.0.1"
_DEFAULT_METRICS_PORTS = {service: 9101 + index for index, service in enumerate(SERVICES)}
_WITH_STORE = ("refinement", "reward", "finetune", "orchestrator")
_WITH_MODELS = ("refinement", "ranking", "finetune")
# Which services a service calls; each is a group of its settings with an `address`.
_CALLS = {"reward": ("refinement", "finetune"), "orchestrator": ("refinement", "ranking", "reward", "finetune")}


@dataclass(frozen=True)
class StackConfig:
    """What the services are started with.

    Attributes:
        state_dir: Where state, logs and, by default, artifacts lie.
        store_root: The artifact store.
        sections: The settings of each service, and of the console where it is to start, as they will be written to the
            file that they read.
    """

    state_dir: Path
    store_root: str
    sections: Mapping[str, Mapping[str, Any]]

    def listens(self, service: str) -> tuple[str, int]:
        """Host and port of a service, or of the console."""
        server = self.sections[service].get("server", {})
        default = CONSOLE_PORT if service == CONSOLE else DEFAULT_PORTS[service]
        return str(server.get("host", _DEFAULT_HOST)), int(server.get("port", default))

    def metrics_port(self, service: str) -> int:
        """Port of a service's metrics page; 0 where it has none."""
        return int(self.sections[service].get("server", {}).get("metrics_port", _DEFAULT_METRICS_PORTS[service]))

    @property
    def endpoints(self) -> Endpoints:
        """Where clients of this machine find the services."""
        return Endpoints(**{service: self._reached(service) for service in SERVICES})

    @property
    def console(self) -> ConsolePlace | None:
        """Where the console will be; None where it is not to start."""
        if CONSOLE not in self.sections:
            return None
        section = self.sections[CONSOLE]
        address = self._reached(CONSOLE)
        url = section.get("server", {}).get("url") or f"http://{address}"
        other_accounts = section.get("accounts") or section.get("oidc")
        token = None if other_accounts else str(Path(section["state_dir"]).absolute() / "token")
        return ConsolePlace(address, url, token)

    def _reached(self, service: str) -> str:
        host, port = self.listens(service)
        return f"{_DEFAULT_HOST if host in ('0.0.0.0', '[::]', '::') else host}:{port}"


def resolve(file: Path | None, overrides: Sequence[str], state_dir: Path, *, console: bool = False) -> StackConfig:
    """Reads the file (by default `ilf.yaml`, where there is one), applies overrides and fills in what is shared.

    At the top, `store.root` goes to every service that has no store of its own, and `models` (sources by name) to
    refinement, ranking and finetune where they name none; finetune may train what refinement serves.

    Args:
        file: YAML with a section per service, `console`, `store` and `models`.
        overrides: KEY.KEY=VALUE, over what the file says.
        state_dir: Where state, logs and, by default, artifacts lie.
        console: The console is to start too.

    Raises:
        InvalidArgumentError: A section that no service has, or one that is no mapping.
    """
    source = file or (DEFAULT_CONFIG if DEFAULT_CONFIG.is_file() else None)
    data = apply_overrides(read_yaml(source) if source else {}, overrides)
    _check_sections(data)
    store_root = str((data.get("store") or {}).get("root", state_dir / "artifacts"))
    sections = {name: dict(data.get(name) or {}) for name in (*SERVICES, *([CONSOLE] if console else []))}
    for name, section in sections.items():
        section.setdefault("state_dir", str(state_dir / name))
    for service in _WITH_STORE:
        sections[service].setdefault("store", {"root": store_root})
    for service in _WITH_MODELS:
        sections[service].setdefault("models", dict(data.get("models") or {}))
    sections["finetune"]["models"] = {**sections["refinement"]["models"], **sections["finetune"]["models"]}
    config = StackConfig(state_dir, store_root, sections)
    for service, called in _CALLS.items():
        for other in called:
            sections[service][other] = {"address": getattr(config.endpoints, other), **sections[service].get(other, {})}
    if console:
        sections[CONSOLE]["services"] = {**asdict(config.endpoints), **sections[CONSOLE].get("services", {})}
    return config


def _check_sections(data: Mapping[str, Any]) -> None:
    known = [*SERVICES, CONSOLE, "store", "models"]
    violations = [
        FieldViolation(str(key), f"is no section; {suggestion(str(key), known)}") for key in data if key not in known
    ]
    violations += [
        FieldViolation(str(key), "a mapping is wanted")
        for key, section in data.items()
        if section is not None and not isinstance(section, dict)
    ]
    if violations:
        raise InvalidArgumentError(violations=violations)
