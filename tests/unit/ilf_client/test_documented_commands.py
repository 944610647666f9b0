"""Every `ilf` command in the handbook and in the chart's texts is one that the program takes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from ilf_client.cli.main import main

ROOT = Path(__file__).parents[3]
TEXTS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "charts" / "ilf" / "README.md",
    ROOT / "charts" / "ilf" / "templates" / "NOTES.txt",
]
_CODE = re.compile(r"```\w*\n(.*?)```|`([^`\n]+)`", re.DOTALL)
_COMMAND = re.compile(r"(?:^|\$\(|; |&& |or: )\s*ilf ([a-z-][^\n#;|)&]*)", re.MULTILINE)


def commands(path: Path) -> Iterator[str]:
    """What follows `ilf` wherever it is typed."""
    text = path.read_text(encoding="utf-8")
    for found in [text] if path.suffix == ".txt" else ["".join(code) for code in _CODE.findall(text)]:
        yield from _COMMAND.findall(found)


def unknown(typed: str) -> str | None:
    """What the program would refuse of a command line."""
    command: click.Command = main
    context = click.Context(main)
    for word in typed.split():
        if isinstance(command, click.Group):
            if word.startswith("-"):
                return None
            subcommand = command.get_command(context, word)
            if subcommand is None:
                return word
            command = subcommand
        elif word.startswith("-"):
            options = [name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)]
            if word.split("=")[0] not in [*options, "--help", "-h"]:
                return word
    return None


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_program_takes_the_commands_that_are_told(path: Path) -> None:
    assert [typed for typed in commands(path) if unknown(typed)] == []


def test_wrong_ones_would_be_found() -> None:
    assert unknown("runs shew RUN") == "shew"
    assert unknown("connect -n ilf --releases ilf") == "--releases"
    assert list(commands(ROOT / "docs" / "operations.md"))
