"""`meltemi validate`: files checked without a mesh."""

from __future__ import annotations

import click

from meltemi.cli.lazy import Verb

EXAMPLES = (
    "meltemi validate -f examples/bookshop -R",
    "meltemi validate -f split.yaml -f gateway.yaml",
    "helm template shop | meltemi validate -f -",
)


@click.command(
    "validate",
    cls=Verb,
    examples=EXAMPLES,
    exit_status="0 if there is no error (there may be warnings), 1 if there is one, 2 if the command was not understood",
    help="Check files without a mesh: all problems at once, each with file, line, field and what to do about it.",
)
@click.option(
    "-f",
    "--filename",
    "paths",
    multiple=True,
    required=True,
    metavar="FILE|DIR|-",
    type=click.Path(allow_dash=True),
    help="A file, a directory, or - for standard input. May be repeated.",
)
@click.option("-R", "--recursive", is_flag=True, help="Look into subdirectories.")
@click.option("-n", "--namespace", default="", metavar="NAME", help="The namespace of objects that name none.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="The form of the output.")
def validate(paths: tuple[str, ...], recursive: bool, namespace: str, output: str | None) -> int:
    """See EXAMPLES."""
    from meltemi.base.problems import Severity
    from meltemi.cli import manifests, printing, problems

    found = manifests.read(
        paths, namespace or "default", given=bool(namespace), recursive=recursive, twice=Severity.WARNING
    )
    wrong = found.all_problems
    if output:
        printing.write([problems.as_row(problem) for problem in wrong], output)
    else:
        problems.tell(wrong, err=False)
        objects = printing.plural(len(found.manifests), "object")
        files = printing.plural(found.files, "file")
        click.echo(f"{objects} in {files}: {problems.count(wrong)}")
    return 1 if manifests.errors(wrong) else 0
