"""Click's groups and commands, as this program wants them: imported late, sorted into sections, with examples in help.

The help of the group is written from `commands.COMMANDS` alone; a verb's module is imported when the verb is called
or its own help is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, MutableMapping
from typing import Any

import click

from meltemi.cli.commands import BY_NAME, COMMANDS, SECTIONS

USUAL_EXIT_STATUS = "0 if all is well, 1 if a problem was found, 2 if the command was not understood"


class Verb(click.Command):
    """A command whose help ends with examples and the meaning of its exit status."""

    def __init__(
        self, *args: Any, examples: Iterable[str] = (), exit_status: str = USUAL_EXIT_STATUS, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self.exit_status = exit_status

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Adds the examples and the exit status."""
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"{'':{formatter.current_indent}}{example}\n")
        with formatter.section("Exit status"):
            formatter.write_text(self.exit_status)


class Program(click.Group):
    """The program: verbs by name, imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs, in the order of the help."""
        return [command.name for command in COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports a verb."""
        command = BY_NAME.get(cmd_name)
        if command is None:
            return None
        found = getattr(importlib.import_module(command.module), command.function)
        assert isinstance(found, click.Command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but an unknown verb is compared with those that are not imported yet."""
        name = args[0]
        if name in BY_NAME or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        raise click.exceptions.NoSuchCommand(name, possibilities=list(BY_NAME), ctx=ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The verbs in their sections."""
        longest = max(len(command.name) for command in COMMANDS)
        for section in SECTIONS:
            rows = [(c.name.ljust(longest), c.summary) for c in COMMANDS if c.section == section]
            with formatter.section(section):
                formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Completes verbs without importing them."""
        from click.shell_completion import CompletionItem

        names = [CompletionItem(c.name, help=c.summary) for c in COMMANDS if c.name.startswith(incomplete)]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]


def no_interspersed(settings: MutableMapping[str, Any] | None = None) -> dict[str, Any]:
    """Context settings of a verb whose last argument is a command line of its own."""
    return {**(settings or {}), "allow_interspersed_args": False}
