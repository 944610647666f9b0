"""The services of the experiments where nobody names others: five processes on free ports, and the feedback program."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from examples.word_removal.demo import plugin
from ilf_client.endpoints import Endpoints
from ilf_client.humanize import duration
from ilf_client.stack.config import SERVICES, StackConfig, resolve
from ilf_client.stack.launch import Launcher, stop_stack
from ilf_client.stack.ports import is_free
from ilf_client.stack.state import read_state

FOLDER = Path(__file__).resolve().parent
_START_SECONDS, _STOP_SECONDS = 300.0, 20.0
_PORT_FILE = "feedback-port"


@contextmanager
def own_services(folder: Path, models: Mapping[str, Path], say: Callable[[str], None]) -> Iterator[Endpoints]:
    """The five services, stopped at the end.

    What a killed command left running is stopped first; its runs and jobs go on with the new services.

    Args:
        folder: Where they keep their state and logs.
        models: Directories of the models that the refinement service offers, by name.
        say: Is told when each of them starts and serves.
    """
    if read_state(folder) is not None:
        stop_stack(folder, _STOP_SECONDS)
    began = time.monotonic()

    def tell(service: str, event: str) -> None:
        say(f"  {service:<13} {event:<9} {duration(time.monotonic() - began)}")

    config = stack_config(folder, models)
    launcher = Launcher(config, tell)
    launcher.start(_START_SECONDS)
    try:
        yield config.endpoints
    finally:
        launcher.stop(_STOP_SECONDS)


def stack_config(folder: Path, models: Mapping[str, Path]) -> StackConfig:
    """The services' configuration, with ports that are free now."""
    ports = iter(free_ports(2 * len(SERVICES)))
    overrides = [f"{service}.server={{port: {next(ports)}, metrics_port: {next(ports)}}}" for service in SERVICES]
    overrides += [f"refinement.models.{name}={path}" for name, path in models.items()]
    overrides += [f"ranking.models.word-removal.source={models['word-removal']}"]
    return resolve(FOLDER / "stack.yaml", overrides, folder)


@contextmanager
def feedback_program(folder: Path, function: str) -> Iterator[str]:
    """The task's feedback program, always on the same port: a run that goes on later looks for it there."""
    file = folder / _PORT_FILE
    port = int(file.read_text(encoding="utf-8")) if file.is_file() else 0
    if not port or not is_free("127.0.0.1", port):
        port = free_ports(1)[0]
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(str(port), encoding="utf-8")
    with plugin(function, port=port) as address:
        yield address


def free_ports(count: int) -> list[int]:
    """Different ports on which nobody listens now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
