"""Starts the services as processes of their own, waits until they serve, and stops them again."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

import yaml

from ilf_client.endpoints import Security
from ilf_client.stack.config import SERVICES, StackConfig
from ilf_client.stack.console import CONSOLE, ConsolePlace
from ilf_client.stack.health import Health, HealthProbe
from ilf_client.stack.ports import find_owner, is_free
from ilf_client.stack.processes import ProcessRecord, stop_processes
from ilf_client.stack.state import StackState, exclusive, forget_state, read_state, write_state
from ilf_common.errors import FailedPreconditionError, UnavailableError

LOG_TAIL_LINES = 15
CONSOLE_START_SECONDS = 30.0
_PROBE_SECONDS = 0.2
# What calls services is stopped before them.
_STOP_ORDER = (CONSOLE, *reversed(SERVICES))

Progress = Callable[[str, str], None]


class Launcher:
    """Starts and stops the services, and the console, of one state directory.

    Args:
        config: What they are started with.
        progress: Called with a service, or the console, and what has become of it.
    """

    def __init__(self, config: StackConfig, progress: Progress) -> None:
        self._config = config
        self._progress = progress
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._log_starts: dict[str, int] = {}

    def start(self, wait_seconds: float) -> StackState:
        """Starts all services and returns when all of them serve; then the console, where it is wanted.

        Without the console the services are of use all the same: why it does not start is told as its progress.

        Raises:
            FailedPreconditionError: They run already (ALREADY_UP), a port is taken (PORT_IN_USE), or a service
                did not start (START_FAILED); the others are stopped then.
            UnavailableError: A service did not serve in time; all are stopped.
        """
        folder = self._config.state_dir
        with exclusive(folder):
            _refuse_when_up(read_state(folder))
            self._refuse_taken_ports()
            (folder / "config.yaml").write_text(yaml.safe_dump(_plain(self._config)), encoding="utf-8")
            try:
                for service in SERVICES:
                    self.spawn(service)
                asyncio.run(self._wait_until_serving(SERVICES, wait_seconds))
                if self._config.console is not None:
                    self._start_console(self._config.console)
            except BaseException:
                self.stop(seconds=10)
                raise
        return self._state()

    def spawn(self, service: str) -> None:
        """Starts one service; its output goes to its log file."""
        log = self.log_file(service)
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "ILF_CONFIG_FILE": str((self._config.state_dir / "config.yaml").resolve())}
        log.touch(mode=0o600)  # the console prints its token
        with log.open("ab") as output:
            self._log_starts[service] = output.tell()
            self._children[service] = subprocess.Popen(
                [sys.executable, "-m", f"services.{service}"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )
        write_state(self._config.state_dir, self._state())
        self._progress(service, "starting")

    def exited(self) -> dict[str, int]:
        """Exit codes of what has ended."""
        codes = {service: child.poll() for service, child in self._children.items()}
        return {service: code for service, code in codes.items() if code is not None}

    def wait_until_serving(self, service: str, seconds: float) -> None:
        """Waits for one service; errors as in `start`."""
        asyncio.run(self._wait_until_serving((service,), seconds))

    def leave_out(self, service: str, why: str) -> None:
        """Goes on without one that is not needed; what is left of it is ended."""
        child = self._children.pop(service, None)
        if child is not None:
            stop_processes([ProcessRecord.of(child.pid)], seconds=2)
            child.wait()
            write_state(self._config.state_dir, self._state())
        self._progress(service, f"left out: {why}")

    def stop(self, seconds: float) -> None:
        """Ends all services, those that did not end in time by force."""
        for service in _STOP_ORDER:
            if service in self._children:
                stop_processes([ProcessRecord.of(self._children[service].pid)], seconds)
                self._children[service].wait()
        forget_state(self._config.state_dir)

    def log_file(self, service: str) -> Path:
        """Where a service's output goes."""
        return self._config.state_dir / "logs" / f"{service}.log"

    def _state(self) -> StackState:
        processes = {service: ProcessRecord.of(child.pid) for service, child in self._children.items()}
        console = self._config.console if CONSOLE in processes else None
        return StackState(processes, self._config.endpoints, self._config.store_root, console)

    def _start_console(self, place: ConsolePlace) -> None:
        host, port = self._config.listens(CONSOLE)
        if not is_free(host, port):
            why = f"port {port} is taken by {find_owner(port)}; choose another with --set {CONSOLE}.server.port=PORT"
            return self.leave_out(CONSOLE, why)
        self.spawn(CONSOLE)
        deadline = time.monotonic() + CONSOLE_START_SECONDS
        while not place.answers():
            code = self.exited().get(CONSOLE)
            if code is not None:
                return self.leave_out(CONSOLE, f"it ended with exit code {code}. {self._tail(CONSOLE)}")
            if time.monotonic() > deadline:
                why = f"it does not answer after {CONSOLE_START_SECONDS:g} s. {self._tail(CONSOLE)}"
                return self.leave_out(CONSOLE, why)
            time.sleep(_PROBE_SECONDS)
        self._progress(CONSOLE, "serving")

    def _refuse_taken_ports(self) -> None:
        for service in SERVICES:
            host, port = self._config.listens(service)
            for name, number in (("port", port), ("metrics_port", self._config.metrics_port(service))):
                if number and not is_free(host, number):
                    raise FailedPreconditionError(
                        f"Port {number} of {host}, which {service} wants, is taken by {find_owner(number)}. "
                        f"Stop that program, or choose another with --set {service}.server.{name}=PORT.",
                        reason="PORT_IN_USE",
                        metadata={"port": str(number), "service": service},
                    )

    async def _wait_until_serving(self, services: Iterable[str], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        security = Security.from_environment()
        probes = {service: HealthProbe.at(getattr(self._config.endpoints, service), security) for service in services}
        try:
            while probes:
                self._refuse_exited()
                for service, probe in list(probes.items()):
                    if await probe.ask() is Health.SERVING:
                        await probes.pop(service).channel.close()
                        self._progress(service, "serving")
                if probes and time.monotonic() > deadline:
                    raise self._not_in_time(next(iter(probes)), seconds)
                await asyncio.sleep(_PROBE_SECONDS)
        finally:
            for probe in probes.values():
                await probe.channel.close()

    def _refuse_exited(self) -> None:
        for service, code in self.exited().items():
            if service == CONSOLE:
                continue
            raise FailedPreconditionError(
                f"{service} did not start: it ended with exit code {code}. {self._tail(service)}",
                reason="START_FAILED",
                metadata={"service": service, "exit_code": str(code)},
            )

    def _tail(self, service: str) -> str:
        log = self.log_file(service)
        return "\n".join([f"The end of {log}:", *last_messages(log, self._log_starts[service])])

    def _not_in_time(self, service: str, seconds: float) -> UnavailableError:
        return UnavailableError(
            f"{service} does not serve after {seconds:g} s. {self._tail(service)}",
            reason="START_TOO_SLOW",
            metadata={"service": service, "hint": "Give it more time with --wait SECONDS."},
        )


def stop_stack(folder: Path, seconds: float) -> tuple[list[str], list[str]]:
    """Stops what `ilf up` started.

    Args:
        folder: The state directory.
        seconds: How long a service has to drain before it is killed.

    Returns:
        The services that were stopped, and those of them that had to be killed.
    """
    with exclusive(folder):
        state = read_state(folder)
        if state is None:
            return [], []
        stopped, killed = state.alive, []
        for service in _STOP_ORDER:
            if service in stopped and stop_processes([state.processes[service]], seconds):
                killed.append(service)
        forget_state(folder)
        return stopped, killed


def last_messages(log: Path, start: int) -> list[str]:
    """The last lines of a log from an offset on; of a line that is JSON, its severity and its message."""
    with log.open("rb") as stream:
        stream.seek(start)
        lines = deque(stream, LOG_TAIL_LINES)
    return [_message(line.decode(errors="replace").rstrip()) for line in lines if line.strip()]


def _message(line: str) -> str:
    try:
        entry = json.loads(line)
        text = f"{entry['severity']} {entry['message']}"
    except (ValueError, KeyError, TypeError):
        return line
    return f"{text}\n{entry['stack']}" if entry.get("stack") else text


def _refuse_when_up(state: StackState | None) -> None:
    if state is not None and state.alive:
        pids = ", ".join(f"{service} (pid {state.processes[service].pid})" for service in state.alive)
        raise FailedPreconditionError(
            f"The services run already: {pids}. Stop them first with `ilf down`.", reason="ALREADY_UP"
        )


def _plain(config: StackConfig) -> dict[str, object]:
    return {service: dict(section) for service, section in config.sections.items()}
