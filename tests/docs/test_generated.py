"""The pages that are made from the code are current, and the examples in commands' help can be typed."""

from __future__ import annotations

import shlex
import subprocess
import sys

import click
import pytest

from meltemi.cli.commands import COMMANDS
from meltemi.cli.lazy import Program, Verb
from meltemi.cli.main import cli

from .documents import DOCS


def test_the_generated_pages_are_what_the_code_says() -> None:
    run = subprocess.run([sys.executable, DOCS / "generate.py", "--check"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def examples() -> list[str]:
    assert isinstance(cli, Program)
    context = click.Context(cli)
    verbs = [cli.get_command(context, entry.name) for entry in COMMANDS]
    return [example for verb in verbs if isinstance(verb, Verb) for example in verb.examples if "meltemi" in example]


@pytest.mark.parametrize("example", [example for example in examples() if "completion" not in example])
def test_every_example_in_the_help_is_a_command_that_is_understood(example: str) -> None:
    """What follows two blanks explains the command; what stands before a pipe feeds it."""
    command = example.partition("  ")[0].rpartition("| ")[2]
    program, name, *arguments = shlex.split(command)
    assert program == "meltemi"
    assert isinstance(cli, Program)
    with click.Context(cli, info_name="meltemi") as parent:
        verb = cli.get_command(parent, name)
        assert verb is not None
        verb.make_context(name, arguments, parent=parent)
