"""`meltemi completion`: the script that teaches a shell to complete."""

from __future__ import annotations

import click

from meltemi.cli.lazy import Verb

EXAMPLES = (
    'bash:  eval "$(meltemi completion bash)"               in ~/.bashrc',
    'zsh:   eval "$(meltemi completion zsh)"                in ~/.zshrc',
    "fish:  meltemi completion fish > ~/.config/fish/completions/meltemi.fish",
)


@click.command(
    "completion",
    cls=Verb,
    examples=EXAMPLES,
    help="Print the completion script of a shell. Kinds, names, namespaces and workloads come from the running mesh.",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> int:
    """See EXAMPLES."""
    from click.shell_completion import ShellComplete, get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    script = ShellComplete.source(found(ctx.find_root().command, {}, "meltemi", "_MELTEMI_COMPLETE"))
    click.echo(script)
    return 0
