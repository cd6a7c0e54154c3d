"""Kinds by whatever name the user gives them: `vs`, `virtualservice`, `virtualservices.networking.istio.io`.

Which kinds there are, and their short names and categories, is asked of the API (aggregated discovery), so that every
kind works which a server has, whether the mesh knows it or not. Where two groups have a kind of one name, the mesh's
goes before the others; the full name says which is meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from meltemi.cli.failures import USAGE, Failure, did_you_mean
from meltemi.kube.errors import error_of_body
from meltemi.kube.resources import Resource
from meltemi.kube.transport import Request

if TYPE_CHECKING:
    from meltemi.kube.client import Client

_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


class Served(msgspec.Struct, frozen=True):
    """A kind that the API serves, in its preferred version, with the names it goes by."""

    resource: Resource
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """`singular.group`: what stands before the slash in `virtualservice.networking.istio.io/reviews`."""
        singular = self.singular or self.resource.kind.lower()
        return f"{singular}.{self.resource.group}" if self.resource.group else singular

    @property
    def names(self) -> tuple[str, ...]:
        """The short and the whole names without a group."""
        return (self.resource.plural, self.singular or self.resource.kind.lower(), *self.short_names)

    def goes_by(self, name: str) -> bool:
        """Whether the user may mean this kind."""
        if name in self.names:
            return True
        plain, _, rest = name.partition(".")
        group = self.resource.group
        return (
            bool(group) and plain in self.names and (rest == group or rest in {f"{v}.{group}" for v in self.versions})
        )


class Kinds:
    """The kinds of one API."""

    def __init__(self, served: Iterable[Served]) -> None:
        self.all = tuple(sorted(served, key=_rank))

    def called(self, name: str) -> Served:
        """The kind of a name. Raises Failure, with the closest name as a hint."""
        lowered = name.lower()
        for kind in self.all:
            if kind.goes_by(lowered):
                return kind
        known = [each for kind in self.all for each in kind.names]
        raise Failure(
            f"there is no kind {name!r} here",
            did_you_mean(lowered, known, "`meltemi get --help` shows examples"),
            USAGE,
        )

    def of_document(self, api_version: str, kind: str) -> Served | None:
        """The kind that a manifest names, in the version that it names."""
        group, _, version = api_version.rpartition("/")
        for served in self.all:
            resource = served.resource
            if resource.group == group and resource.kind == kind and version in served.versions:
                return msgspec.structs.replace(served, resource=msgspec.structs.replace(resource, version=version))
        return None

    def of_kind(self, kind: str) -> Served | None:
        """The kind of a CamelCase name, as in what the control plane tells."""
        return next((served for served in self.all if served.resource.kind == kind), None)

    def of_plural(self, group: str, plural: str) -> Served | None:
        """The kind of a group and a plural, as in what the API tells."""
        wanted = (group, plural)
        return next((each for each in self.all if (each.resource.group, each.resource.plural) == wanted), None)

    def in_category(self, name: str) -> tuple[Served, ...]:
        """The kinds of a category, such as `all`."""
        return tuple(kind for kind in self.all if name in kind.categories)


def _rank(kind: Served) -> tuple[int, str, str]:
    group = kind.resource.group
    known = ("", "apps", "networking.istio.io", "security.istio.io", "telemetry.istio.io", "meltemi.dev")
    return (known.index(group) if group in known else len(known), group, kind.resource.plural)


def parse(document: dict[str, Any]) -> Iterator[Served]:
    """The kinds of one aggregated discovery document (`apidiscovery.k8s.io/v2` APIGroupDiscoveryList)."""
    for group in document.get("items") or ():
        name = (group.get("metadata") or {}).get("name") or ""
        seen: dict[str, list[str]] = {}
        for version in group.get("versions") or ():
            for entry in version.get("resources") or ():
                if entry.get("responseKind"):
                    seen.setdefault(entry["resource"], []).append(version["version"])
        for version in group.get("versions") or ():
            for entry in version.get("resources") or ():
                versions = seen.get(entry["resource"], [])
                if not versions or versions[0] != version["version"]:
                    continue
                resource = Resource(
                    name,
                    version["version"],
                    entry["resource"],
                    entry["responseKind"]["kind"],
                    entry.get("scope") == "Namespaced",
                )
                yield Served(
                    resource,
                    entry.get("singularResource") or "",
                    tuple(entry.get("shortNames") or ()),
                    tuple(entry.get("categories") or ()),
                    tuple(entry.get("verbs") or ()),
                    tuple(versions),
                )


async def discover(client: Client) -> Kinds:
    """Asks the API for its kinds. Raises ApiError."""
    found: list[Served] = []
    for path in ("/api", "/apis"):
        answer = await client.transport.request(Request("GET", path, (), (("Accept", _AGGREGATED),)))
        if answer.status >= 300:
            raise error_of_body(answer.status, answer.body)
        found.extend(parse(msgspec.json.decode(answer.body)))
    return Kinds(found)
