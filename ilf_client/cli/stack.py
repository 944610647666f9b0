"""`ilf up`, `ilf down` and `ilf status`."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ilf_client.cli.failures import FAILED, UNAVAILABLE
from ilf_client.cli.options import Session, output_options, service_options
from ilf_client.cli.output import is_terminal, print_table
from ilf_client.humanize import duration

if TYPE_CHECKING:
    from ilf_client.stack.launch import Launcher
    from ilf_client.stack.state import StackState

_MOST_RESTARTS = 5
_RESTART_WINDOW_SECONDS = 60.0

state_option = click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="ILF_STATE_DIR",
    default=Path(".ilf"),
    show_default=True,
    help="Where state, logs and, by default, artifacts lie.",
)


@click.command()
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML with a section per service, `console`, `store` and `models`. Default: ilf.yaml, where there is one.",
)
@click.option("--set", "overrides", multiple=True, metavar="KEY.KEY=VALUE", help="Override a value of the config.")
@click.option("--wait", type=click.FloatRange(min=1), default=300.0, show_default=True, help="Seconds to wait.")
@click.option("--console/--no-console", default=True, show_default=True, help="Start the console too.")
@click.option("--foreground", is_flag=True, help="Stay, start again what dies, and stop all on Ctrl-C.")
@state_option
@output_options
def up(
    session: Session,
    config: Path | None,
    overrides: Sequence[str],
    wait: float,
    console: bool,
    foreground: bool,
    state_dir: Path,
) -> None:
    """Start the five services and the console on this machine and wait until they serve.

    The services are of use without the console: where it does not start, that is told, and they stay.

    Example: ilf up --set models.tiny=path/to/model
    """
    from ilf_client.stack.config import resolve
    from ilf_client.stack.launch import Launcher

    resolved = resolve(config, overrides, state_dir, console=console)
    if foreground:
        # Like Ctrl-C, so that a supervisor's stop ends the services too.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _Reporter(silent=session.json) as reporter:
        launcher = Launcher(resolved, reporter.tell)
        state = launcher.start(wait)
    session.show(state, lambda: _tell_addresses(state, state_dir))
    if foreground:
        _supervise(launcher, wait)


@click.command()
@click.option("--wait", type=click.FloatRange(min=0), default=40.0, show_default=True, help="Seconds to drain.")
@state_option
@output_options
def down(session: Session, wait: float, state_dir: Path) -> None:
    """Stop the services: they drain first, what does not end in time is killed.

    Runs and trainers lose nothing: the next `ilf up` goes on with them. A running trainer is not stopped;
    `ilf jobs cancel` before this command does that.
    """
    from ilf_client.stack.launch import stop_stack

    training = _running_jobs(state_dir)
    stopped, killed = stop_stack(state_dir, wait)

    def tell() -> None:
        click.echo(f"stopped {', '.join(stopped)}" if stopped else "nothing runs here")
        if killed:
            click.echo(f"killed, because they did not end within {wait:g} s: {', '.join(killed)}", err=True)
        if training:
            click.echo(f"Trainers go on without the services: {', '.join(training)}. `ilf up` takes them up.", err=True)

    session.show({"stopped": stopped, "killed": killed, "training": training}, tell)


@click.command()
@state_option
@service_options
def status(session: Session, state_dir: Path) -> None:
    """Show what runs, where it is, and whether it serves; exit code 3 when a service does not."""
    from ilf_client.cli.addresses import access
    from ilf_client.stack.health import Health, ask_all
    from ilf_client.stack.state import read_state

    places, security = access(session.server)
    health = ask_all(places, security)
    state = None if session.server else read_state(state_dir)
    found: list[dict[str, Any]] = [
        {
            "service": service,
            "address": getattr(places, service),
            "health": said.value,
            "pid": state.processes[service].pid if state and service in state.alive else None,
        }
        for service, said in health.items()
    ]
    if state is not None and state.console is not None:
        found.append(_console_status(state))
    session.show(found, lambda: print_table(["service", "address", "health", "pid"], [list(f.values()) for f in found]))
    if any(said is not Health.SERVING for said in health.values()):
        raise click.exceptions.Exit(UNAVAILABLE)


def _console_status(state: StackState) -> dict[str, Any]:
    from ilf_client.stack.console import CONSOLE
    from ilf_client.stack.health import Health

    assert state.console is not None
    return {
        "service": CONSOLE,
        "address": state.console.address,
        "health": (Health.SERVING if state.console.answers() else Health.UNREACHABLE).value,
        "pid": state.processes[CONSOLE].pid if CONSOLE in state.alive else None,
    }


def _running_jobs(state_dir: Path) -> list[str]:
    """Names of the jobs that train now, as far as a living finetune service tells."""
    from ilf_client.models.jobs import JobState
    from ilf_client.stack.state import read_state
    from ilf_client.sync import Client
    from ilf_common.errors import IlfError
    from ilf_common.rpc.client import RetryPolicy

    state = read_state(state_dir)
    if state is None or "finetune" not in state.alive:
        return []
    try:
        with Client(state.endpoints, retry=RetryPolicy(max_attempts=1)) as client:
            return [job.name for job in client.jobs.list(timeout=5) if job.state is JobState.RUNNING]
    except IlfError:
        return []


class _Reporter:
    """Tells how the start goes: one live line on a terminal, a line an event elsewhere."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent
        self._began = time.monotonic()
        self._starting: list[str] = []
        self._live: Any = None

    def __enter__(self) -> _Reporter:
        if is_terminal() and not self._silent:
            from rich.console import Console

            self._live = Console().status("starting")
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def tell(self, service: str, event: str) -> None:
        """One event of one service."""
        if event == "starting":
            self._starting.append(service)
        elif service in self._starting:
            self._starting.remove(service)
        if event.startswith("left out"):
            click.echo(f"{service:<13} {event}", err=True)
        if self._silent:
            return
        if event == "serving":
            click.echo(f"{service:<13} serves after {duration(time.monotonic() - self._began)}")
        if self._live is not None:
            self._live.update(f"starting {', '.join(self._starting)}")


def _tell_addresses(state: StackState, state_dir: Path) -> None:
    rows = [[service, address, state.processes[service].pid] for service, address in vars(state.endpoints).items()]
    print_table(["service", "address", "pid"], rows)
    click.echo(f"Artifacts: {state.store_root}   Logs: {state_dir / 'logs'}   Stop: ilf down")
    if state.console is not None:
        click.echo(f"Console: {state.console.sign_in_url}   Open: ilf console")


def _supervise(launcher: Launcher, wait: float) -> None:
    """Starts again what dies, until it is interrupted or a service dies too often; such a console is left out."""
    from ilf_client.stack.console import CONSOLE

    services, console = _Restarts(), _Restarts()
    try:
        while True:
            for service, code in launcher.exited().items():
                click.echo(f"{service} ended with exit code {code}; starting it again", err=True)
                too_often = f"it dies too often; its log: {launcher.log_file(service)}"
                if service == CONSOLE and not console.is_one_more_allowed():
                    launcher.leave_out(CONSOLE, too_often)
                elif service == CONSOLE:
                    launcher.spawn(CONSOLE)
                elif services.is_one_more_allowed():
                    launcher.spawn(service)
                    launcher.wait_until_serving(service, wait)
                else:
                    click.echo(f"{service}: {too_often}", err=True)
                    raise click.exceptions.Exit(FAILED)
            time.sleep(0.5)
    except KeyboardInterrupt:
        click.echo("stopping", err=True)
    finally:
        launcher.stop(seconds=40)


class _Restarts:
    """When something was started again."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=_MOST_RESTARTS)

    def is_one_more_allowed(self) -> bool:
        """Whether there were few of late; counts this one."""
        now = time.monotonic()
        if len(self._times) == _MOST_RESTARTS and now - self._times[0] < _RESTART_WINDOW_SECONDS:
            return False
        self._times.append(now)
        return True
