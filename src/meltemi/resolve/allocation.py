"""Addresses for hosts that have none, so that connections to them can be told apart.

A ServiceEntry without addresses is only a name, and a TCP connection does not carry its name. So every host of one gets
an address of 240.240.0.0/16 and one of 2001:2::/48, ranges that nobody routes (Istio's automatic allocation). An address
must outlive restarts and unrelated changes: what the status of a ServiceEntry names already is kept; a new host starts at
a place that is the hash of its name, and takes the next free one from there. Of two that claim one address the older
keeps it.

Invariant: no address is given twice, and an entry that is added never moves one that stands in a status.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from ipaddress import IPv4Network, IPv6Network, ip_address

import msgspec

from meltemi.api.networking import ServiceEntry
from meltemi.base.hosts import is_wildcard
from meltemi.base.ordering import seniority
from meltemi.base.problems import Problem
from meltemi.flow import View
from meltemi.resolve import problems

SWITCH = "networking.istio.io/enable-autoallocate-ip"
IPV4, IPV6 = IPv4Network("240.240.0.0/16"), IPv6Network("2001:2::/48")
RANGES = (IPV4, IPV6)

# The first and the last address of the smaller range stay free, and the same places are used in the larger.
PLACES = 2**16 - 2

Key = tuple[str, str]


class Allocated(msgspec.Struct, frozen=True, order=True):
    """An address and the host that it was given to (an item of ServiceEntry `status.addresses`)."""

    host: str
    value: str


class Allocations(msgspec.Struct, frozen=True):
    """The addresses given to the hosts of each ServiceEntry, by its namespace and name."""

    addresses: dict[Key, tuple[Allocated, ...]] = {}


def wants_addresses(entry: ServiceEntry) -> bool:
    """Whether the hosts of a ServiceEntry are given addresses."""
    spec = entry.spec
    return (
        not spec.addresses
        and spec.resolution not in ("NONE", "DYNAMIC_DNS")
        and not any(map(is_wildcard, spec.hosts))
        and entry.labels.get(SWITCH, "").lower() != "false"
    )


def standing(entry: ServiceEntry, host: str, family: IPv4Network | IPv6Network = IPV4) -> tuple[str, ...]:
    """The addresses of a range that the status of a ServiceEntry says a host was given; none if it wants none."""
    if entry.status is None or not wants_addresses(entry):
        return ()
    found = (each.value for each in entry.status.addresses if each.host in ("", host))
    return tuple(value for value in found if _place(value, family) is not None)


def allocations(*, entries: View[Key, ServiceEntry]) -> Iterator[Allocations | Problem]:
    """The addresses of all hosts that are given any."""
    wanting = sorted(filter(wants_addresses, entries.all()), key=seniority)
    given: dict[Key, list[Allocated]] = {(entry.namespace, entry.name): [] for entry in wanting}
    for family in RANGES:
        taken = _kept(wanting, family)
        holders = set(taken.values())
        for entry in wanting:
            for host in dict.fromkeys(entry.spec.hosts):
                owner = (entry.namespace, entry.name, host)
                if owner not in holders:
                    place = _free(taken, owner)
                    if place is None:
                        yield _exhausted(entry, host, family)
                        continue
                    taken[place] = owner
        for place, (namespace, name, host) in taken.items():
            given[namespace, name].append(Allocated(host, str(family[place])))
    yield Allocations({key: tuple(sorted(own, key=_by_host_and_family)) for key, own in sorted(given.items()) if own})


Owner = tuple[str, str, str]  # namespace and name of a ServiceEntry, and one of its hosts


def _kept(wanting: list[ServiceEntry], family: IPv4Network | IPv6Network) -> dict[int, Owner]:
    """The places in a range that statuses name: one for each host, and none for two."""
    taken: dict[int, Owner] = {}
    holders: set[Owner] = set()
    for entry in wanting:
        for each in entry.status.addresses if entry.status else ():
            owner = (entry.namespace, entry.name, each.host)
            place = _place(each.value, family)
            if place is not None and each.host in entry.spec.hosts and place not in taken and owner not in holders:
                taken[place] = owner
                holders.add(owner)
    return taken


def _place(value: str, family: IPv4Network | IPv6Network) -> int | None:
    """Where an address stands in a range; None if it is not in it, or no address."""
    try:
        address = ip_address(value)
    except ValueError:
        return None
    if address.version != family.version or address not in family:
        return None
    return int(address) - int(family.network_address)


def _free(taken: dict[int, Owner], owner: Owner) -> int | None:
    """The first free place from the one that a name hashes to; None if there is no free one."""
    start = int.from_bytes(blake2b("/".join(owner).encode(), digest_size=8).digest()) % PLACES
    places = (1 + (start + step) % PLACES for step in range(PLACES))
    return next((place for place in places if place not in taken), None)


def _by_host_and_family(each: Allocated) -> tuple[str, int]:
    return each.host, ip_address(each.value).version


def _exhausted(entry: ServiceEntry, host: str, family: IPv4Network | IPv6Network) -> Problem:
    return problems.warning(
        entry,
        "spec.hosts",
        "AddressesExhausted",
        f"{host} gets no address, because all of {family} are in use",
        "write spec.addresses",
    )
