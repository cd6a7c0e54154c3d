"""Which object or collection a URL path names."""

from __future__ import annotations

from urllib.parse import unquote

import msgspec

from meltemi.kube.resources import Key
from meltemi.local.apiserver.catalogue import Catalogue, Kind


class Target(msgspec.Struct, frozen=True):
    """A kind in one served version; a namespace (empty: all); a name (empty: the collection); a subresource."""

    kind: Kind
    version: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def key(self) -> Key:
        """The object's key in the store."""
        return Key(self.namespace, self.name)


def target_of(catalogue: Catalogue, path: str) -> Target | None:
    """The target of a path below `/api` or `/apis`; None if it names no served kind."""
    parts = [unquote(part) for part in path.strip("/").split("/")]
    match parts:
        case ["api", version, *rest]:
            group = ""
        case ["apis", group, version, *rest]:
            pass
        case _:
            return None
    match rest:
        case ["namespaces", namespace, plural, *names] if not _is_of_namespace(group, plural, names):
            kind = catalogue.by_path(group, version, plural)
            if kind is None or not kind.namespaced or len(names) > 2:
                return None
            return Target(kind, version, namespace, *names)
        case [plural, *names] if len(names) <= 2:
            kind = catalogue.by_path(group, version, plural)
            if kind is None or (kind.namespaced and names):
                return None
            return Target(kind, version, "", *names)
    return None


def _is_of_namespace(group: str, word: str, names: list[str]) -> bool:
    """Whether `namespaces/<name>/<word>` is a subresource of the Namespace itself."""
    return not group and not names and word in ("status", "finalize")
