"""Who is meant by "the client" of a rule: predicates over clients, and one variant for each group that sees it alike.

Rules reach clients by namespace (`exportTo`, the client's own rules before those of the service). Instead of asking for
every namespace of the mesh, only those are asked that some rule names; all others see the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from meltemi.model.clients import ANYONE, Clients

T = TypeVar("T")


def by_namespace(named: Iterable[str], decide: Callable[[str | None], T]) -> list[tuple[Clients, T]]:
    """What clients of each namespace see: variants, of which the first that includes a client applies to it.

    `named` are the namespaces for which `decide` may answer otherwise than for the rest, which it is asked for as None.
    """
    rest = decide(None)
    groups: list[tuple[set[str], T]] = []
    for namespace in sorted(set(named)):
        seen = decide(namespace)
        if seen == rest:
            continue
        for members, same in groups:
            if same == seen:
                members.add(namespace)
                break
        else:
            groups.append(({namespace}, seen))
    return [*((Clients(namespaces=frozenset(members)), seen) for members, seen in groups), (ANYONE, rest)]
