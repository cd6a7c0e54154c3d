"""From predicates about clients to variants: which resource is whose, the most particular clients first.

Routes and policies each say which clients they are for, and any of those predicates may hold for a client or not. So
for every set of them that can hold together there is a variant, made as for a client to whom exactly those apply. The
larger sets come first, which makes "the first variant that includes the client" the right one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import combinations

from meltemi.envoy.resource import Resource, Variant
from meltemi.model.clients import ANYONE, Clients

MOST_PREDICATES = 6  # 64 sets at most; who needs more has described individuals and not classes of clients

Applies = Callable[[Clients], bool]


def predicates(values: Iterable[Clients]) -> tuple[Clients, ...]:
    """The distinct predicates, in order, without the one that all clients fulfil."""
    return tuple(value for value in dict.fromkeys(values) if value != ANYONE)


def situations(wanted: Iterable[Clients], within: Clients = ANYONE) -> Iterator[tuple[Clients, frozenset[Clients]]]:
    """Every set of the predicates that some client among `within` may fulfil, with those clients, larger sets first.

    No more than `MOST_PREDICATES` are heeded.
    """
    heeded = tuple(wanted)[:MOST_PREDICATES]
    for size in range(len(heeded), -1, -1):
        for chosen in combinations(heeded, size):
            clients = _all(chosen, within)
            if clients is not None:
                yield clients, frozenset(chosen)


def _all(chosen: Iterable[Clients], within: Clients) -> Clients | None:
    clients: Clients | None = within
    for predicate in chosen:
        if clients is None:
            return None
        clients = clients.meet(predicate)
    return clients


def variants(
    wanted: Iterable[Clients], make: Callable[[Applies], Resource | None], within: Clients = ANYONE
) -> list[Variant]:
    """A variant for every situation. `make` is asked for the resource and told which predicates apply in it."""
    found = []
    for clients, held in situations(wanted, within):

        def applies(clients: Clients, held: frozenset[Clients] = held) -> bool:
            return clients == ANYONE or clients in held

        found.append(Variant(clients, make(applies)))
    return found


def compact(variants: Iterable[Variant]) -> tuple[Variant, ...]:
    """The same choice with fewer words: a variant is dropped where the last one would give its clients the same."""
    kept = list(variants)
    while len(kept) > 1 and _version(kept[-2]) == _version(kept[-1]):
        del kept[-2]
    return tuple(kept)


def _version(variant: Variant) -> str | None:
    return None if variant.resource is None else variant.resource.version
