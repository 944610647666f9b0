"""`ilf plugin`."""

from __future__ import annotations

import click


@click.group()
def plugin() -> None:
    """Programs of yours that the loop calls."""


@plugin.command("serve")
@click.argument("function", metavar="MODULE:FUNCTION")
@click.option(
    "--score", is_flag=True, help="The function scores outputs (answers a number) instead of giving feedback."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=50060, show_default=True, help="0 takes a free one.")
@click.option("--token-file", type=click.Path(exists=True, dir_okay=False), help="Callers must send this token.")
def serve(function: str, score: bool, host: str, port: int, token_file: str | None) -> None:
    """Serve FUNCTION(context, output) until Ctrl-C.

    It answers a text (feedback), or a number with --score. It is looked up in the working directory too, and runs in
    this process with your rights; the loop only ever sees what it answers. Name it to a run with
    `--set feedback.plugin_address=HOST:PORT` or `--set evaluate.plugin_address=HOST:PORT`.
    """
    import asyncio
    from pathlib import Path

    from ilf_client.plugin import load_function, serve_plugin

    asyncio.run(
        serve_plugin(
            load_function(function),
            score=score,
            host=host,
            port=port,
            token_file=Path(token_file) if token_file else None,
            ready=lambda bound: click.echo(f"serving {function} at {host}:{bound}"),
        )
    )
