"""What this machine has and lacks for the services, each finding with how to mend it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ilf_client.stack.config import DEFAULT_CONFIG, SERVICES, StackConfig, resolve
from ilf_client.stack.console import CONSOLE
from ilf_client.stack.health import Health, ask_all
from ilf_client.stack.ports import find_owner, is_free
from ilf_client.stack.state import read_state
from ilf_common.errors import IlfError

_LEAST_DISK_GIB = 5
_LEAST_MEMORY_GIB = 4
_GIB = 1024**3
_PACKAGES = (
    # package, what needs it, whether it can be done without
    ("torch", "models (refinement, ranking, reward, training)", False),
    ("transformers", "models (refinement, ranking, reward, training)", False),
    ("vllm", "fast generation; without it the transformers engine is used", True),
    ("ray", "ranking", False),
    ("sentence_transformers", "the embedding ranker", True),
    ("trl", "training", False),
    ("peft", "LoRA", False),
    ("accelerate", "training", False),
    ("dbos", "the orchestrator", False),
    ("datasets", "Hugging Face datasets (hf://…)", True),
    ("starlette", "the console", True),
    ("uvicorn", "the console", True),
    ("altair", "the console's charts", True),
)


class Verdict(Enum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `mend` says what to do where it is not well."""

    subject: str
    verdict: Verdict
    text: str
    mend: str = ""


def diagnose(config_file: Path | None, state_dir: Path) -> list[Finding]:
    """Looks at Python, packages, the accelerator, memory, disk, configuration, ports and services."""
    checks: Iterable[Callable[[], Iterable[Finding]]] = (
        _python,
        _packages,
        _accelerator,
        _memory,
        lambda: _disk(state_dir),
        lambda: _stack(config_file, state_dir),
    )
    return [finding for check in checks for finding in check()]


def _python() -> Iterable[Finding]:
    version = platform.python_version()
    if (3, 11) <= sys.version_info[:2] < (3, 13):
        yield Finding("python", Verdict.OK, version)
    else:
        yield Finding(
            "python", Verdict.PROBLEM, f"{version} is not 3.11 or 3.12", "Make a virtual environment with 3.11."
        )


def _packages() -> Iterable[Finding]:
    for name, purpose, optional in _PACKAGES:
        if importlib.util.find_spec(name) is not None:
            yield Finding(name, Verdict.OK, _version(name))
        else:
            verdict = Verdict.WARNING if optional else Verdict.PROBLEM
            yield Finding(
                name, verdict, f"is not installed; wanted for {purpose}", "pip install --no-deps -r locks/cpu.txt"
            )
    if importlib.util.find_spec("torchvision") is not None and _version("torch").endswith("+cpu"):
        yield Finding(
            "torchvision",
            Verdict.WARNING,
            "beside a CPU torch it may break `import transformers`",
            "pip uninstall torchvision torchaudio torchcodec",
        )


def _version(name: str) -> str:
    distributions = importlib.metadata.packages_distributions().get(name, [name])
    try:
        return importlib.metadata.version(distributions[0])
    except importlib.metadata.PackageNotFoundError:
        return "unknown version"


def _accelerator() -> Iterable[Finding]:
    if importlib.util.find_spec("torch") is None:
        return
    import torch

    if torch.cuda.is_available():
        names = sorted({torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())})
        yield Finding("accelerator", Verdict.OK, f"{torch.cuda.device_count()} x {', '.join(names)}")
    else:
        yield Finding("accelerator", Verdict.OK, f"none; {os.cpu_count()} CPU cores are used")


def _memory() -> Iterable[Finding]:
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / _GIB
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / _GIB
    except (ValueError, OSError):
        return
    text = f"{total:.1f} GiB, {free:.1f} GiB unused"
    if total < _LEAST_MEMORY_GIB:
        mend = "Ray and five services want 4 GiB; use a larger machine, or smaller models."
        yield Finding("memory", Verdict.WARNING, text, mend)
    else:
        yield Finding("memory", Verdict.OK, text)


def _disk(state_dir: Path) -> Iterable[Finding]:
    place = next(path for path in (state_dir.resolve(), *state_dir.resolve().parents) if path.exists())
    free = shutil.disk_usage(place).free / _GIB
    if free < _LEAST_DISK_GIB:
        mend = "Delete old runs in .ilf/artifacts/runs, or set store.root to a larger place."
        yield Finding("disk", Verdict.WARNING, f"{free:.1f} GiB free for {state_dir}", mend)
    else:
        yield Finding("disk", Verdict.OK, f"{free:.1f} GiB free for {state_dir}")


def _stack(config_file: Path | None, state_dir: Path) -> Iterable[Finding]:
    name = str(config_file or DEFAULT_CONFIG)
    try:
        config = resolve(config_file, (), state_dir, console=True)
    except IlfError as error:
        yield Finding("config", Verdict.PROBLEM, f"{name}: {error.message}", f"Mend {name}.")
        return
    there = config_file or DEFAULT_CONFIG.is_file()
    yield Finding("config", Verdict.OK, name if there else "defaults (no ilf.yaml here)")
    state = read_state(state_dir)
    if state is not None and state.alive:
        yield from _services(state_dir)
    else:
        yield from _models(config)
        yield from _ports(config)


def _models(config: StackConfig) -> Iterable[Finding]:
    if not config.sections["refinement"].get("models"):
        yield Finding(
            "models",
            Verdict.WARNING,
            "the refinement service has no model",
            "ilf up --set models.NAME=DIRECTORY-OR-HUB-ID, or name it in ilf.yaml.",
        )


def _services(state_dir: Path) -> Iterable[Finding]:
    state = read_state(state_dir)
    assert state is not None
    for service, health in ask_all(state.endpoints).items():
        address = getattr(state.endpoints, service)
        if health is Health.SERVING:
            yield Finding(service, Verdict.OK, f"serves at {address}")
        else:
            mend = f"Look into {state_dir / 'logs' / service}.log, then `ilf down` and `ilf up`."
            yield Finding(service, Verdict.PROBLEM, f"{health.value} at {address}", mend)
    if state.console is not None and state.console.answers():
        yield Finding(CONSOLE, Verdict.OK, f"serves at {state.console.address}")
    else:
        mend = f"If you want it, look into {state_dir / 'logs' / CONSOLE}.log, then `ilf down` and `ilf up`."
        yield Finding(CONSOLE, Verdict.WARNING, "does not run", mend)


def _ports(config: StackConfig) -> Iterable[Finding]:
    for service in (*SERVICES, CONSOLE):
        host, port = config.listens(service)
        if is_free(host, port):
            yield Finding(service, Verdict.OK, f"does not run; port {port} is free")
        else:
            mend = f"Stop it, or set {service}.server.port to another."
            verdict = Verdict.WARNING if service == CONSOLE else Verdict.PROBLEM
            yield Finding(service, verdict, f"port {port} is taken by {find_owner(port)}", mend)
