"""`meltemi analyze`: what is wrong with objects together, in files, in a mesh, or in both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from meltemi.cli.failures import USAGE, Failure
from meltemi.cli.lazy import Verb
from meltemi.cli.session import Api, api_options, run
from meltemi.cli.surroundings import Choice

if TYPE_CHECKING:
    from meltemi.analyze.messages import Message
    from meltemi.analyze.suppression import Suppression
    from meltemi.base.problems import Problem
    from meltemi.cli.analysing import Material

EXAMPLES = (
    "meltemi analyze -A                                  the running mesh",
    "meltemi analyze split.yaml gateway.yaml             files alone, without a mesh",
    "meltemi analyze --live split.yaml                   the mesh as it would be with the file",
    "meltemi analyze -R examples --failure-threshold Warning",
    "meltemi analyze -A --suppress 'IST0102=Namespace shop' --suppress IST0118",
    "meltemi analyze -L                                  the analyzers and their codes",
)

LEVELS = ("Info", "Warning", "Error")


@click.command(
    "analyze",
    cls=Verb,
    examples=EXAMPLES,
    exit_status="0 if nothing was found at the level of --failure-threshold or above, 1 if something was, "
    "2 if the command was not understood",
    help="Find what is wrong with objects together: references that lead nowhere, conflicts, rules that are never "
    "reached. Looks at FILES, or at the running mesh if none are named, and with --live at both. Codes are Istio's.",
)
@click.argument("files", metavar="[FILE|DIR|-]...", nargs=-1, type=click.Path(allow_dash=True))
@api_options(all_namespaces=True)
@click.option("--live", is_flag=True, help="Look at the running mesh as well, with the files in it.")
@click.option("-R", "--recursive", is_flag=True, help="Look into subdirectories.")
@click.option(
    "-o", "--output", type=click.Choice(["log", "json", "yaml"]), default="log", help="The form of the output."
)
@click.option(
    "--output-threshold",
    type=click.Choice(LEVELS, case_sensitive=False),
    default="Info",
    help="Tell only findings of this level or above.",
)
@click.option(
    "--failure-threshold",
    type=click.Choice(LEVELS, case_sensitive=False),
    default="Error",
    help="Exit with 1 if there is a finding of this level or above.",
)
@click.option(
    "-S",
    "--suppress",
    multiple=True,
    metavar="CODE[=KIND NAME]",
    help="Do not tell a code of an object, such as 'IST0103=Pod shop/*'. May be repeated.",
)
@click.option("-L", "--list-analyzers", is_flag=True, help="List the analyzers with their codes, and do nothing else.")
def analyze(
    choice: Choice,
    files: tuple[str, ...],
    live: bool,
    recursive: bool,
    output: str,
    output_threshold: str,
    failure_threshold: str,
    suppress: tuple[str, ...],
    list_analyzers: bool,
) -> int:
    """See EXAMPLES."""
    if list_analyzers:
        _list(output)
        return 0
    from meltemi.cli import analysing

    suppressions = [_suppression(text) for text in suppress]

    def conclude(found: list[Problem], scope: str, unread: dict[str, str]) -> int:
        in_scope = [problem for problem in found if scope in ("", _namespace_of(problem))]
        _show([problem for problem in in_scope if _reaches(problem, output_threshold)], output, unread)
        return 1 if any(_reaches(problem, failure_threshold) for problem in in_scope) else 0

    nothing = analysing.Material()
    if files and not live:
        material = analysing.of_files(files, choice.namespace or "default", recursive=recursive)
        return conclude(analysing.findings(material, nothing, suppressions), "", {})

    async def body(api: Api) -> int:
        written: Material = nothing
        if files:
            written = analysing.of_files(files, api.namespace, recursive=recursive)
        mesh = await analysing.of_mesh(api)
        found = analysing.findings(written, mesh, suppressions)
        if files and not choice.all_namespaces:
            found = [problem for problem in found if _concerns(problem, written, api.namespace)]
            return conclude(found, "", mesh.unread)
        return conclude(found, api.scope, mesh.unread)

    return run(choice, body)


def _concerns(problem: Problem, written: Material, namespace: str) -> bool:
    """Whether a finding is about an object of the files, or of the namespace."""
    refs = {*written.documents, *(each.ref for each in written.problems)}
    return problem.ref in refs or _namespace_of(problem) == namespace


def _namespace_of(problem: Problem) -> str:
    return problem.ref.name if problem.ref.kind == "Namespace" else problem.ref.namespace


def _reaches(problem: Problem, level: str) -> bool:
    levels = [each.lower() for each in LEVELS]
    return levels.index(str(problem.severity).lower()) >= levels.index(level.lower())


def _suppression(text: str) -> Suppression:
    from meltemi.analyze import suppression

    try:
        return suppression.parse(text)
    except ValueError as error:
        raise Failure(str(error), "write it as IST0103='Pod shop/*'", USAGE) from None


def _show(found: list[Problem], output: str, unread: dict[str, str]) -> None:
    import msgspec

    from meltemi.cli import printing, problems

    for kind, reason in sorted(unread.items()):
        printing.warning(f"{kind} could not be read: {reason}")
    if output != "log":
        printing.write([problems.as_row(problem) for problem in found], output)
        return
    told = (msgspec.structs.replace(each, message=f"{each.message} [{each.code}]") for each in found)
    problems.tell(told, err=False)
    click.echo(f"analysis: {problems.count(found)}")


def _list(output: str) -> None:
    from meltemi.analyze.analyzers import ANALYZERS, SCHEMA
    from meltemi.cli import printing, tables

    first: tuple[str, str, tuple[Message, ...]] = ("schema", "Whether each object is accepted by itself", SCHEMA)
    listed = [first, *((analyzer.name, analyzer.summary, analyzer.messages) for analyzer in ANALYZERS)]
    if output == "log":
        rows = [(name, " ".join(message.code for message in found), summary) for name, summary, found in listed]
        tables.write(("ANALYZER", "CODES", "LOOKS FOR"), rows)
        return
    printing.write(
        [
            {
                "name": name,
                "summary": summary,
                "messages": [
                    {"code": each.code, "name": each.name, "level": str(each.severity), "meaning": each.meaning}
                    for each in found
                ],
            }
            for name, summary, found in listed
        ],
        output,
    )
