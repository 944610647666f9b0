"""`ilf console`."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import click

from ilf_client.cli.options import Session, output_options
from ilf_client.cli.stack import state_option
from ilf_common.errors import FailedPreconditionError


@click.command()
@click.option("--no-open", is_flag=True, help="Only print the address.")
@state_option
@output_options
def console(session: Session, no_open: bool, state_dir: Path) -> None:
    """Open the console that `ilf up` started, logged in as this machine's account.

    The address holds a token: who has it may do all that you may.
    """
    from ilf_client.stack.console import CONSOLE
    from ilf_client.stack.state import read_state

    state = read_state(state_dir)
    if state is None or state.console is None or CONSOLE not in state.alive:
        log = state_dir / "logs" / f"{CONSOLE}.log"
        raise FailedPreconditionError(
            f"No console runs with the state in {state_dir}.",
            reason="CONSOLE_DOWN",
            metadata={"hint": f"Start it with `ilf down`, then `ilf up`; {log} says why an earlier one ended."},
        )
    url = state.console.sign_in_url
    opened = not no_open and webbrowser.open(url)
    session.show({"url": url, "opened": opened}, lambda: click.echo(url))
