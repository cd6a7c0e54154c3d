"""Writes the pages that are made from the code: `python docs/generate.py [--check]`.

    cli.md              the command line, from the commands themselves
    compatibility.md    every field of every kind: acted on, or not yet

With `--check` nothing is written: the exit status is 1 if a page is not what the code says now.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
from msgspec import inspect

from meltemi.api import core, registry, support
from meltemi.api.meta import Resource
from meltemi.api.registry import KINDS, Kind
from meltemi.api.shaping import fields_of
from meltemi.api.support import WITHOUT_EFFECT_HERE, WITHOUT_MEANING_HERE, Node, acted_on
from meltemi.cli.commands import COMMANDS, SECTIONS
from meltemi.cli.lazy import USUAL_EXIT_STATUS, Program, Verb
from meltemi.cli.main import cli
from meltemi.testing import fields
from meltemi.testing.fields import struct_of

NAMED = 2  # tests that a field's row names
HERE = Path(__file__).parent
MADE = "<!-- Made by docs/generate.py: change the code, not this page. -->"

CLI_INTRODUCTION = f"""\
{MADE}

# The command line

Every command tells its own usage with `--help`; this page is the same for reading. `meltemi completion --help` says how a
shell learns to complete kinds, names and workloads.

A command talks to the mesh that runs on this machine, if there is one; else to the cluster that `KUBECONFIG` names; else
to the cluster it runs in. `--mesh`, `--kubeconfig` and `--context` say it explicitly. Problems go to standard error, each
with file and line, field, what is wrong and a hint; `-o json` and `-o yaml` give the same for programs.

Exit status, of every command: {USUAL_EXIT_STATUS}. `exec` ends with the status of the command that it ran.
"""

COMPATIBILITY_INTRODUCTION = f"""\
{MADE}

# What of Istio's and Kubernetes' API is acted on

All fields of the kinds below are decoded and checked. A field of a mesh kind that is set and not acted on is never passed
over in silence: it yields a warning of the code `FieldNotActedOn` when it is applied, and in the object's status. Unknown
fields of mesh kinds are refused.

A field stands for everything below it: `retries` in `spec.http` is the whole of it. What has effect in parts has a row of
its own. What will never be acted on is listed below each table with its reason, which the warning tells too.

Requests of the method CONNECT are not routed, in Istio neither: [Gateways](gateways.md) tells what becomes of them.

A second table names, for each field that is acted on, tests whose objects set it; a field that stands in several places is
listed where it stands first. A unit test fails if a field has none.
"""

KUBERNETES_INTRODUCTION = """\
## Kubernetes' own kinds

Namespaces, ServiceAccounts, Services, Deployments, ReplicaSets, Pods, EndpointSlices, ConfigMaps and Secrets mean on one
machine what they mean in a cluster. These are the fields of Pods and Services that are honoured. Of any other that is set,
`meltemi apply` and `meltemi validate` warn with the code `FieldNotHonoured`; only those that say where a pod is placed
or how it is packaged are passed over without a word, since a laptop is one place and runs commands, not images.
"""


def cli_page() -> str:
    """The command line reference."""
    return "\n".join([CLI_INTRODUCTION, *_sections()])


def _sections() -> Iterator[str]:
    with click.Context(cli, info_name="meltemi") as context:
        assert isinstance(cli, Program)
        for section in SECTIONS:
            yield f"## {section}\n"
            for entry in COMMANDS:
                if entry.section == section:
                    verb = cli.get_command(context, entry.name)
                    assert isinstance(verb, Verb)
                    yield _command(entry.name, verb, context)


def _command(name: str, verb: Verb, parent: click.Context) -> str:
    with click.Context(verb, info_name=name, parent=parent) as context:
        usage = " ".join(verb.collect_usage_pieces(context))
        lines = [f"### {name}", "", f"    meltemi {name} {usage}", "", *_prose(verb.help or "")]
        records = [record for param in verb.params if (record := param.get_help_record(context)) is not None]
        records = [
            (option, text) for option, text in records if option.startswith("-") and text and "--help" not in option
        ]
    if records:
        lines += ["", "| option | |", "|---|---|"]
        lines += [f"| `{_cell(option)}` | {_cell(text)} |" for option, text in records]
    if verb.examples:
        lines += ["", "Examples:", "", *(f"    {example}" for example in verb.examples)]
    if verb.exit_status != USUAL_EXIT_STATUS:
        lines += ["", f"Exit status: {verb.exit_status}."]
    return "\n".join([*lines, ""])


def _prose(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def compatibility_page() -> str:
    """What of each kind has an effect."""
    parts = [COMPATIBILITY_INTRODUCTION]
    parts += [_mesh_kind(kind) for kind in KINDS if kind.mesh]
    parts.append(KUBERNETES_INTRODUCTION)
    parts += [_core_kind(kind) for kind in (registry.kind_of(core.Pod), registry.kind_of(core.Service))]
    return "\n".join(parts)


def _mesh_kind(kind: Kind) -> str:
    versions = ", ".join(f"`{version}`" for version in kind.api_versions)
    lines = [f"## {kind.kind}\n", f"{versions}\n"]
    if kind.struct not in support.ACTED_ON:
        return "\n".join([*lines, f"{kind.kind} is decoded and checked, and not acted on yet.\n"])
    never = support.NEVER_ACTED_ON.get(kind.struct, {})
    lines += ["| in | acted on | never | not yet |", "|---|---|---|---|"]
    tree = acted_on(kind.struct)["spec"]
    lines += _rows(fields_of(kind.struct)["spec"].type, tree, "spec", {}, frozenset(never))
    return "\n".join([*lines, "", *_reasons(never), *_tests(kind)])


def _tests(kind: Kind) -> Iterator[str]:
    """A table of tests that set each field: of the most telling kinds of tests, the first of each."""
    yield "| field | set by |"
    yield "|---|---|"
    by_field = tests_by_field()[kind.struct]
    for field in fields.fields(kind.struct):
        names = by_field.get((field.struct, field.name), ())
        firsts = {name.partition("/")[0]: name for name in reversed(names)}
        shown = [name for name in names if name in firsts.values()][:NAMED]
        yield f"| `{field.path}.{field.name}` | {_listed(shown)} |"
    yield ""


@cache
def tests_by_field() -> dict[type[Resource], dict[tuple[str, str], tuple[str, ...]]]:
    """By kind, and by struct and field, the tests that set the field."""
    return fields.tests_of(HERE.parent / "tests")


def _reasons(never: dict[str, str]) -> Iterator[str]:
    """Why some fields will not be acted on: a list with an item for each reason."""
    if never:
        yield "Never acted on, and why:\n"
        for reason in dict.fromkeys(never.values()):
            yield f"- {_listed([path for path, why in never.items() if why == reason])}: {reason}."
        yield ""


def _rows(
    kind: inspect.Type, tree: Node, path: str, seen: dict[tuple[type, str], str], without: frozenset[str]
) -> Iterator[str]:
    """A row for each struct of whose fields some count and some do not, or that has such a struct in it."""
    struct = struct_of(kind)
    assert struct is not None
    before = seen.setdefault((struct, _told(tree)), path)
    if before != path:
        yield f"| `{path}` | as in `{before}` | | |"
        return
    wholly, never, not_yet, partly = [], [], [], []
    for wire, field in fields_of(struct).items():
        below = tree.get(wire)
        if below is None:
            (never if f"{path}.{wire}" in without else not_yet).append(wire)
        elif below and struct_of(field.type) is not None and not _is_whole(field.type, below):
            partly.append((wire, field, below))
        else:
            wholly.append(wire)
    yield f"| `{path}` | {_listed(wholly)} | {_listed(never)} | {_listed(not_yet)} |"
    for wire, field, below in partly:
        yield from _rows(field.type, below, f"{path}.{wire}", seen, without)


def _told(tree: Node) -> str:
    """A tree as a text that is the same for the same trees."""
    return f"({' '.join(f'{name}{_told(tree[name])}' for name in sorted(tree))})"


def _is_whole(kind: inspect.Type, tree: Node) -> bool:
    """Whether every field below counts."""
    struct = struct_of(kind)
    if not tree or struct is None:
        return True
    fields = fields_of(struct)
    return all(wire in tree and _is_whole(field.type, tree[wire]) for wire, field in fields.items())


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _core_kind(kind: Kind) -> str:
    silent = frozenset(WITHOUT_MEANING_HERE.get(kind.struct, ()))
    told = frozenset(WITHOUT_EFFECT_HERE.get(kind.struct, ()))
    lines = [f"### {kind.kind}\n", "| in | honoured |", "|---|---|"]
    lines += _honoured(fields_of(kind.struct)["spec"].type, "spec", silent | told, {})
    lines += ["", f"Not honoured, with a warning, as every field that is not named here: {_listed(sorted(told))}.\n"]
    lines += [f"Passed over without a word: {_listed(sorted(silent))}.", ""]
    return "\n".join(lines)


def _honoured(kind: inspect.Type, path: str, left_out: frozenset[str], seen: dict[type, str]) -> Iterator[str]:
    """A row for each struct on the way down."""
    struct = struct_of(kind)
    assert struct is not None
    before = seen.setdefault(struct, path)
    if before != path:
        yield f"| `{path}` | as in `{before}` |"
        return
    fields = {wire: field for wire, field in fields_of(struct).items() if f"{path}.{wire}" not in left_out}
    yield f"| `{path}` | {_listed(list(fields))} |"
    for wire, field in fields.items():
        if struct_of(field.type) is not None:
            yield from _honoured(field.type, f"{path}.{wire}", left_out, seen)


PAGES = {"cli.md": cli_page, "compatibility.md": compatibility_page}


def main(arguments: list[str]) -> int:
    """Writes the pages, or tells which are not current; the exit status."""
    stale = []
    for name, make in PAGES.items():
        file, text = HERE / name, make()
        if arguments == ["--check"]:
            if not file.exists() or file.read_text() != text:
                stale.append(name)
        else:
            file.write_text(text)
    for name in stale:
        sys.stderr.write(f"docs/{name} is not what the code says: run `python docs/generate.py`\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
