"""Hosts of ServiceEntries that have no address are given one, which stays theirs."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import msgspec
import pytest

from meltemi.api.meta import ObjectMeta
from meltemi.api.networking.service_entry import (
    ServiceEntry,
    ServiceEntryAddress,
    ServiceEntrySpec,
    ServiceEntryStatus,
    ServicePort,
)
from meltemi.base.problems import Problem
from meltemi.flow import Graph, Put, Table, using
from meltemi.resolve import allocation
from meltemi.resolve.allocation import Allocated, Allocations

PORT = ServicePort(number=3306, name="tcp", protocol="TCP")


def entry(name: str, *hosts: str, labels: dict[str, str] | None = None, created: str = "", **spec: Any) -> ServiceEntry:
    spec = {"resolution": "DNS", "ports": (PORT,)} | spec
    return ServiceEntry(
        kind="ServiceEntry",
        metadata=ObjectMeta(name=name, namespace="shop", labels=labels or {}, creation_timestamp=created),
        spec=ServiceEntrySpec(hosts=hosts or (f"{name}.example.com",), **spec),
    )


def holding(of: ServiceEntry, *addresses: Allocated) -> ServiceEntry:
    """The entry with addresses in its status."""
    held = tuple(ServiceEntryAddress(value=each.value, host=each.host) for each in addresses)
    return msgspec.structs.replace(of, status=ServiceEntryStatus(addresses=held))


def told(*entries: ServiceEntry) -> tuple[dict[tuple[str, str], tuple[Allocated, ...]], tuple[Problem, ...]]:
    g = Graph()
    facts: Table[tuple[str, str], ServiceEntry] = g.input("ServiceEntry")
    table = g.single("allocations", allocation.allocations, using(entries=facts))
    g.commit(Put(facts, (each.namespace, each.name), each) for each in entries)
    found: Allocations = table.only()
    return found.addresses, g.problems()


def given(*entries: ServiceEntry) -> dict[tuple[str, str], tuple[Allocated, ...]]:
    return told(*entries)[0]


def test_a_host_gets_an_address_of_each_family() -> None:
    ((four, six),) = given(entry("db")).values()
    assert four.host == six.host == "db.example.com"
    assert ip_address(four.value) in ip_network("240.240.0.0/16")
    assert ip_address(six.value) in ip_network("2001:2::/48")


def test_every_host_of_an_entry_gets_its_own() -> None:
    (addresses,) = given(entry("db", "one.example.com", "two.example.com")).values()
    assert len({each.value for each in addresses}) == len(addresses) == 4


@pytest.mark.parametrize(
    "without",
    [
        entry("db", addresses=("192.0.2.1",)),
        entry("db", resolution="NONE"),
        entry("db", "*.example.com", resolution="DYNAMIC_DNS"),
        entry("db", "*.example.com", resolution="STATIC"),
        entry("db", labels={allocation.SWITCH: "false"}),
    ],
)
def test_some_entries_get_none(without: ServiceEntry) -> None:
    assert given(without) == {}


def test_what_stands_in_a_status_is_kept() -> None:
    held = Allocated("db.example.com", "240.240.7.7")
    assert held in given(holding(entry("db"), held))["shop", "db"]


def test_of_two_that_claim_an_address_the_older_keeps_it() -> None:
    both = [
        holding(entry(name, created=created), Allocated(f"{name}.example.com", "240.240.7.7"))
        for name, created in (("a", "2026-02-01T00:00:00Z"), ("b", "2026-01-01T00:00:00Z"))
    ]
    found = given(*both)
    assert found["shop", "b"][0].value == "240.240.7.7"
    assert found["shop", "a"][0].value not in ("240.240.7.7", "")


def test_another_entry_moves_nobody_who_has_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocation, "PLACES", 3)  # so that hashes collide
    first = given(entry("a"), entry("b"))
    again = [holding(entry(name), *first["shop", name]) for name in "ab"]
    older = entry("c", created="")
    found = given(*again, older)
    assert {key: found[key] for key in first} == first
    assert len({each.value for own in found.values() for each in own}) == 6


def test_a_host_for_which_no_address_is_left_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocation, "PLACES", 1)
    found, problems = told(entry("a"), entry("b"))
    assert set(found) == {("shop", "a")}
    assert {(each.ref.name, each.code) for each in problems} == {("b", "AddressesExhausted")}


def test_an_address_of_another_range_or_for_another_host_is_not_taken_over() -> None:
    strange = holding(
        entry("db"), Allocated("db.example.com", "192.0.2.1"), Allocated("else.example.com", "240.240.7.7")
    )
    values = {each.value for each in given(strange)["shop", "db"]}
    assert not values & {"192.0.2.1", "240.240.7.7"}
