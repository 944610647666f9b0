"""Follows a run: a live table on a terminal, a line a change elsewhere, JSON lines for programs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from ilf_client.cli.failures import FAILED, INTERRUPTED, report
from ilf_client.cli.options import Session
from ilf_client.cli.output import is_terminal, print_json
from ilf_client.humanize import between
from ilf_client.models.runs import Run, RunState, StageState, StageStatus
from ilf_client.stages import stage_cells, waiting_line

if TYPE_CHECKING:
    from ilf_client.sync import Client

_STATE_STYLES = {
    "succeeded": "green",
    "running": "cyan",
    "failed": "red",
    "waiting": "yellow",
    "cancelled": "yellow",
}
_LEAST_SECONDS_BETWEEN_LINES = 10.0


def follow(session: Session, client: Client, name: str) -> Run:
    """Shows a run until it ends.

    Ctrl-C leaves the run alone and ends the command with exit code 130.

    Returns:
        The run as it ended.
    """
    view: _Lines | _LiveTable | _JsonLines
    if session.json:
        view = _JsonLines()
    elif is_terminal():
        view = _LiveTable()
    else:
        view = _Lines()
    last: Run | None = None
    try:
        with view:
            for last in client.runs.watch(name):
                view.show(last)
    except KeyboardInterrupt:
        bare = (last.name if last else name).removeprefix("runs/")
        click.echo(f"\nThe run goes on. Return: ilf runs watch {bare}   Stop it: ilf runs cancel {bare}", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None
    return last or client.runs.get(name)


def end(session: Session, run: Run) -> None:
    """Says how a run ended; exit code 1 unless it succeeded."""
    bare = run.name.removeprefix("runs/")
    if not session.json:
        click.echo(f"{run.name} {run.state.value} after {between(run.create_time, run.end_time)}")
    if run.state is RunState.SUCCEEDED:
        return
    if run.error is not None:
        report(run.error, as_json=session.json)
    click.echo(
        f"Hint: `ilf runs show {bare}` shows where it stopped, `ilf runs resume {bare}` goes on there.", err=True
    )
    raise click.exceptions.Exit(FAILED)


class _JsonLines:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def show(self, run: Run) -> None:
        print_json(run, line=True)


class _Lines:
    """Prints what changed; running stages at most every ten seconds."""

    def __init__(self) -> None:
        self._shown: dict[tuple[int, str], StageState] = {}
        self._state: RunState | None = None
        self._waiting = ""
        self._last_line = 0.0

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def show(self, run: Run) -> None:
        if run.state is not self._state and not run.state.is_final:
            click.echo(f"{run.name} {run.state.value}")
        self._state = run.state
        reason = run.waiting.reason if run.waiting else ""
        if reason and reason != self._waiting:
            click.echo(waiting_line(run))
        self._waiting = reason
        for iteration in run.iterations:
            for stage in iteration.stages:
                self._show_stage(iteration.index, stage)

    def _show_stage(self, iteration: int, stage: StageStatus) -> None:
        if stage.state in (StageState.UNSPECIFIED, StageState.PENDING):
            return
        now = time.monotonic()
        changed = self._shown.get((iteration, stage.stage)) is not stage.state
        due = stage.state is StageState.RUNNING and now - self._last_line >= _LEAST_SECONDS_BETWEEN_LINES
        if changed or due:
            state, rows, bad, speed, left, took = stage_cells(stage)
            parts = [f"it-{iteration}", f"{stage.stage:<9}", f"{state:<9}", rows, f"{bad} bad" if bad else "", speed]
            parts += [f"{left} left" if left else "", took]
            click.echo("  ".join(part for part in parts if part))
            self._shown[iteration, stage.stage] = stage.state
            self._last_line = now


class _LiveTable:
    def __enter__(self) -> None:
        from rich.live import Live

        self._run: Run | None = None
        self._live = Live(get_renderable=self._render, refresh_per_second=4)
        self._live.start()

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, run: Run) -> None:
        self._run = run
        self._live.refresh()

    def _render(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        run = self._run
        if run is None:
            return Text("connecting")
        title = Text(f"{run.name}  ")
        title.append(run.state.value, style=_STATE_STYLES.get(run.state.value, ""))
        title.append(f"  {between(run.create_time, run.end_time)}")
        table = Table(title=title, title_justify="left", caption=waiting_line(run) or None, caption_justify="left")
        for header in ("it", "stage", "state", "rows", "bad", "rate", "left", "time"):
            table.add_column(header, justify="right" if header in ("rows", "bad", "rate", "left", "time") else "left")
        for iteration in run.iterations:
            for stage in iteration.stages:
                state, *cells = stage_cells(stage)
                styled = Text(state, style=_STATE_STYLES.get(state, "dim"))
                table.add_row(str(iteration.index), stage.stage, styled, *cells)
            table.add_section()
        return table
