"""`meltemi get`: objects as the API prints them, or as they are."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import click

from meltemi.cli.completing import complete_objects
from meltemi.cli.lazy import Verb
from meltemi.cli.session import Api, api_options, run
from meltemi.cli.surroundings import Choice

if TYPE_CHECKING:
    from meltemi.cli.kinds import Served
    from meltemi.cli.listing import TableOf
    from meltemi.cli.naming import Meant

EXAMPLES = (
    "meltemi get pods -A                       all pods of all namespaces",
    "meltemi get vs,dr -n bookshop             two kinds at once",
    "meltemi get vs reviews -n bookshop -o yaml",
    "meltemi get deploy/reviews-v1 -n bookshop -o wide",
    "meltemi get pods -l app=reviews -w        and go on watching",
)


class Query:
    """How objects are selected and shown."""

    def __init__(self, output: str, selector: str) -> None:
        self.output = output
        self.selector = selector

    @property
    def is_table(self) -> bool:
        """Whether a table is shown."""
        return self.output in ("", "wide")


@click.command("get", cls=Verb, examples=EXAMPLES, help="List objects of any kind: `all`, a kind, or objects by name.")
@click.argument("objects", metavar="KIND [NAME]...", nargs=-1, required=True, shell_complete=complete_objects)
@api_options(all_namespaces=True)
@click.option("-o", "--output", type=click.Choice(["json", "yaml", "wide", "name"]), help="The form of the output.")
@click.option("-l", "--selector", default="", metavar="LABELS", help="Only objects with these labels (app=reviews).")
@click.option("-w", "--watch", is_flag=True, help="Go on telling what changes.")
def get(choice: Choice, objects: tuple[str, ...], output: str | None, selector: str, watch: bool) -> int:
    """See EXAMPLES."""
    query = Query(output or "", selector)

    async def body(api: Api) -> int:
        from meltemi.cli import naming

        meant = naming.parse(await api.kinds(), objects)
        if watch:
            return await _watch(api, meant, query)
        if query.is_table:
            return await _tables(api, meant, query)
        return await _objects(api, meant, query)

    return run(choice, body)


def without_managed_fields(obj: dict[str, Any]) -> dict[str, Any]:
    """An object without the record of who owns which field, which nobody reads."""
    metadata = {name: value for name, value in (obj.get("metadata") or {}).items() if name != "managedFields"}
    return {**obj, "metadata": metadata}


async def _objects(api: Api, meant: list[Meant], query: Query) -> int:
    from meltemi.cli import printing

    found: list[dict[str, Any]] = []
    for kind, name in meant:
        resource = kind.resource
        if name:
            found.append(await api.client.get(resource, name, api.namespace if resource.namespaced else ""))
        else:
            listed = await api.client.list(resource, api.scope, labels=query.selector)
            found.extend(listed.items)
    if query.output == "name":
        kinds = await api.kinds()
        for obj in found:
            kind = kinds.of_document(obj["apiVersion"], obj["kind"]) or meant[0].kind
            click.echo(f"{kind.title}/{obj['metadata']['name']}")
        return 0
    shown = [without_managed_fields(obj) for obj in found]
    if len(meant) == 1 and meant[0].name:
        printing.write(shown[0], query.output)
    else:
        printing.write({"apiVersion": "v1", "kind": "List", "items": shown}, query.output)
    return 0


async def _tables(api: Api, meant: list[Meant], query: Query) -> int:
    from meltemi.cli import tables

    kinds = list(dict.fromkeys(kind for kind, _ in meant))
    found = await asyncio.gather(
        *(_table(api, kind, [m.name for m in meant if m.kind == kind], query) for kind in kinds)
    )
    shown = False
    for kind, parts in zip(kinds, found, strict=True):
        prefix = f"{kind.title}/" if len(kinds) > 1 else ""
        headers, rows = rows_of(parts, kind, query, namespaces=api.all_namespaces, prefix=prefix)
        if rows:
            if shown:
                click.echo()
            tables.write(headers, rows)
            shown = True
    if not shown:
        place = "" if api.all_namespaces else f" in the namespace {api.namespace} (-A looks in all)"
        click.echo(f"nothing found{place}", err=True)
    return 0


async def _table(api: Api, kind: Served, names: list[str], query: Query) -> list[TableOf]:
    from meltemi.cli import listing

    wanted = [name for name in names if name]
    if not wanted:
        return [await listing.table(api.client, kind.resource, api.scope, labels=query.selector)]
    return list(
        await asyncio.gather(*(listing.table(api.client, kind.resource, api.namespace, name) for name in wanted))
    )


def rows_of(
    parts: list[TableOf], kind: Served, query: Query, *, namespaces: bool, prefix: str = ""
) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of the tables of one kind."""
    from meltemi.cli import listing

    wide = query.output == "wide"
    namespaces = namespaces and kind.resource.namespaced
    headers = listing.headers_of(parts[0], wide=wide, namespaces=namespaces)
    rows = [
        listing.cells_of(part, row, wide=wide, namespaces=namespaces, prefix=prefix)
        for part in parts
        for row in part.rows or ()
    ]
    return headers, rows


async def _watch(api: Api, meant: list[Meant], query: Query) -> int:
    import msgspec

    from meltemi.cli import listing, printing, tables
    from meltemi.cli.failures import USAGE, Failure

    if len(meant) != 1:
        raise Failure("one kind can be watched at a time", "name one kind, or one object", USAGE)
    (kind, name) = meant[0]
    whole = not query.is_table
    scope = api.namespace if name else api.scope
    first = await listing.table(api.client, kind.resource, scope, name, labels=query.selector, whole=whole)
    headers, rows = rows_of([first], kind, query, namespaces=api.all_namespaces)
    columns = tables.Columns(headers, rows)
    if query.is_table:
        click.echo(columns.head())

    def show(part: TableOf) -> None:
        for row, cells in zip(
            part.rows or (), rows_of([part], kind, query, namespaces=api.all_namespaces)[1], strict=True
        ):
            if query.is_table:
                click.echo(columns.line(cells))
            elif query.output == "name":
                click.echo(f"{kind.title}/{row.object['metadata']['name']}")
            else:
                if query.output == "yaml":
                    click.echo("---")
                printing.write(without_managed_fields(row.object), query.output)
        sys.stdout.flush()

    show(first)
    fields = f"metadata.name={name}" if name else ""
    definitions = first.column_definitions
    async for event in listing.changes(
        api.client, kind.resource, scope, first.resource_version, labels=query.selector, fields=fields, whole=whole
    ):
        part = event.object
        show(part if part.column_definitions else msgspec.structs.replace(part, column_definitions=definitions))
    return 0
