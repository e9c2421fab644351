"""docs/sandbox.md: its commands are those of the command line."""

import re
import shlex
from pathlib import Path

import click
import pytest

from awsbatch_sandbox.cli import sandbox

PAGE = Path(__file__).parents[2] / "docs/sandbox.md"
COMMANDS = re.findall(r"^\$ awsbatch-operator sandbox(.*)$", PAGE.read_text("utf-8"), flags=re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_documented_command_is_accepted(command: str) -> None:
    arguments = shlex.split(command, comments=True)
    with sandbox.make_context("sandbox", arguments) as context:
        if not arguments:
            return
        name, chosen, rest = sandbox.resolve_command(context, context._protected_args + context.args)
        assert chosen is not None, name
        chosen.make_context(name, rest).close()


def test_every_fault_command_is_documented() -> None:
    documented = {shlex.split(command)[0] for command in COMMANDS if command.strip() and command.strip()[0] not in "#-"}
    assert documented == set(sandbox.list_commands(click.Context(sandbox)))
