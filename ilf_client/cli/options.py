"""Options that most commands share, and the client that they lead to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ilf_client.cli.output import print_json

if TYPE_CHECKING:
    from ilf_client.sync import Client

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Session:
    """What the shared options of one command say."""

    server: str | None = None
    timeout: float | None = None
    json: bool = False
    debug: bool = False

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A client of the services that --server, the environment, `ilf connect` or `ilf up` names."""
        from ilf_client.cli.addresses import access
        from ilf_client.sync import Client

        places, security = access(self.server)
        with Client(places, security=security) as client:
            yield client

    def show(self, value: object, for_people: Callable[[], None]) -> None:
        """Prints a result in the wanted format."""
        if self.json:
            print_json(value)
        else:
            for_people()


pass_session = click.make_pass_decorator(Session, ensure=True)


def session_options(command: F) -> F:
    """`--debug`; the command takes the `Session` first."""
    option = click.option(
        "--debug", is_flag=True, expose_value=False, callback=_set("debug"), help="Show the stack of an error."
    )
    return pass_session(option(command))  # type: ignore[return-value]


def server_options(command: F) -> F:
    """`--server` with those of `session_options`."""
    server = click.option(
        "--server",
        metavar="HOST[:PORT]",
        expose_value=False,
        callback=_set("server"),
        help="Where the services are: a host with the default ports, or one gateway. Default: ILF_SERVER, then what "
        "`ilf connect` reaches, then what `ilf up` started here.",
    )
    return session_options(server(command))


def connection_options(command: F) -> F:
    """`--timeout` with those of `server_options`."""
    timeout = click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        expose_value=False,
        callback=_set("timeout"),
        help="Give a call up after so long.",
    )
    return server_options(timeout(command))


def work_options(command: F) -> F:
    """`-o json` with those of `server_options`: for work of many calls, which goes on where it stopped."""
    return server_options(_format_option(command))


def work_folder_option(holds: str, beside: str) -> Callable[[F], F]:
    """`--folder`, where work of many calls keeps what it has.

    Args:
        holds: What lies there, for the help.
        beside: The argument that the folder is made beside if none is named.
    """
    return click.option(
        "--folder",
        type=click.Path(file_okay=False, path_type=Path),
        help=f"Where {holds} lie; the same folder again goes on there. Default: beside {beside}.",
    )


def output_options(command: F) -> F:
    """`-o json` with those of `session_options`."""
    return session_options(_format_option(command))


def service_options(command: F) -> F:
    """`-o json` with those of `connection_options`."""
    return connection_options(_format_option(command))


def _format_option(command: F) -> F:
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["text", "json"]),
        expose_value=False,
        callback=_set_output,
        help="Format of the result. Default: text.",
    )(command)


def _set(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
        setattr(ctx.ensure_object(Session), name, value)
        ctx.meta[f"ilf.{name}"] = value

    return callback


def _set_output(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    _set("json")(ctx, parameter, value == "json")
