"""`ilf completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    bash: put `eval "$(ilf completion bash)"` into ~/.bashrc. zsh: the same with zsh in ~/.zshrc.
    fish: `ilf completion fish > ~/.config/fish/completions/ilf.fish`.
    """
    from ilf_client.cli.main import main

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(main, {}, "ilf", "_ILF_COMPLETE").source())
