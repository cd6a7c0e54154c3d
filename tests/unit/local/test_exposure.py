"""The names of ServiceEntries' hosts: which addresses they have, and whose when several declare one."""

from __future__ import annotations

from meltemi.api.meta import ObjectMeta
from meltemi.api.networking.service_entry import (
    ServiceEntry,
    ServiceEntryAddress,
    ServiceEntrySpec,
    ServiceEntryStatus,
)
from meltemi.local.exposure import all_addresses, written_addresses

HOST = "db.example.com"


def entry(name: str, *addresses: str, created: str = "", given: tuple[ServiceEntryAddress, ...] = ()) -> ServiceEntry:
    return ServiceEntry(
        metadata=ObjectMeta(name=name, namespace="shop", creation_timestamp=created),
        spec=ServiceEntrySpec(hosts=(HOST,), addresses=addresses, resolution="STATIC"),
        status=ServiceEntryStatus(addresses=given),
    )


def test_a_host_has_the_addresses_written_but_no_ranges() -> None:
    assert all_addresses([entry("db", "192.0.2.1", "198.51.100.0/24")]) == {HOST: ("192.0.2.1",)}


def test_a_host_without_addresses_has_those_of_the_status_for_pods_that_can_call_them() -> None:
    given = (
        ServiceEntryAddress(value="240.240.0.7", host=HOST),
        ServiceEntryAddress(value="2001:2::7", host=HOST),
        ServiceEntryAddress(value="240.240.0.8", host="else.example.com"),
    )
    assert all_addresses([entry("db", given=given)]) == {HOST: ("240.240.0.7",)}
    assert written_addresses([entry("db", given=given)]) == {}
    written = [entry("db", "192.0.2.1", given=given)]
    assert all_addresses(written) == written_addresses(written) == {HOST: ("192.0.2.1",)}


def test_of_several_entries_of_a_host_the_oldest_answers() -> None:
    older = entry("b", "192.0.2.1", created="2026-01-01T00:00:00Z")
    newer = entry("a", "192.0.2.2", created="2026-02-01T00:00:00Z")
    assert all_addresses([older, newer]) == all_addresses([newer, older]) == {HOST: ("192.0.2.1",)}
