"""Answers from the names that a proxy may know, asked with an independent client (dnspython)."""

from __future__ import annotations

from random import Random

import dns.flags
import dns.message
import dns.rcode
import pytest

from meltemi.agent.names import Names
from meltemi.agent.wire import NameInfo


@pytest.fixture(scope="module")
def names() -> Names:
    table = Names("shop", "cluster.local", "shop.svc.cluster.local", Random(7))
    table.put("reviews.shop.svc.cluster.local", "1", NameInfo(("10.96.0.20",), "Kubernetes", "reviews", "shop"))
    table.put("Rates.bank.svc.cluster.local", "1", NameInfo(("10.96.0.30",), "Kubernetes", "rates", "bank"))
    table.put("db-0.db.shop.svc.cluster.local", "1", NameInfo(("10.244.1.1",), "Kubernetes", "db-0.db", "shop"))
    table.put("api.example.com", "1", NameInfo(("240.240.0.1", "2001:2::1"), "External"))
    table.put("plain.shop.svc.cluster.local", "1", NameInfo(("192.0.2.9",), "External"))
    table.put("*.vault.example", "1", NameInfo(("192.0.2.1", "no address"), "External"))
    table.put("*.deep.vault.example", "1", NameInfo(("192.0.2.2",), "External"))
    return table


def ask(table: Names, name: str, kind: str = "A") -> list[str] | None:
    """The answer's records as text; None if others are to be asked."""
    query = dns.message.make_query(name, kind)
    wire = table.answer(query.to_wire())
    if wire is None:
        return None
    answer = dns.message.from_wire(wire)
    assert query.is_response(answer)
    assert answer.rcode() == dns.rcode.NOERROR
    assert answer.flags & dns.flags.AA
    return [f"{group.name} {record}" for group in answer.answer for record in group]


@pytest.mark.parametrize(
    "name",
    ["reviews.shop.svc.cluster.local", "REVIEWS.shop.svc.Cluster.local", "reviews", "reviews.shop", "reviews.shop.svc"],
)
def test_a_service_is_known_by_all_of_its_names(names: Names, name: str) -> None:
    assert ask(names, name) == [f"{name}. 10.96.0.20"]


def test_short_names_are_of_the_own_namespace_and_of_services_only(names: Names) -> None:
    assert ask(names, "rates") is None
    assert ask(names, "rates.bank") == ["rates.bank. 10.96.0.30"]
    assert ask(names, "plain") is None
    assert ask(names, "db-0.db") == ["db-0.db. 10.244.1.1"]


def test_a_host_has_the_addresses_of_the_kind_that_is_asked_for(names: Names) -> None:
    assert ask(names, "api.example.com") == ["api.example.com. 240.240.0.1"]
    assert ask(names, "api.example.com", "AAAA") == ["api.example.com. 2001:2::1"]
    assert ask(names, "reviews.shop.svc.cluster.local", "AAAA") == []


def test_a_host_behind_which_a_client_put_its_search_domain_is_an_alias(names: Names) -> None:
    expanded = "api.example.com.shop.svc.cluster.local."
    assert ask(names, expanded) == [f"{expanded} api.example.com.", "api.example.com. 240.240.0.1"]
    assert ask(names, "api.example.com.svc.cluster.local") is None


def test_a_wildcard_covers_what_no_narrower_one_does(names: Names) -> None:
    assert ask(names, "a.vault.example") == ["a.vault.example. 192.0.2.1"]
    assert ask(names, "a.b.vault.example") == ["a.b.vault.example. 192.0.2.1"]
    assert ask(names, "a.deep.vault.example") == ["a.deep.vault.example. 192.0.2.2"]
    assert ask(names, "vault.example") is None


@pytest.mark.parametrize(
    ("name", "kind"), [("www.example.org", "A"), ("nobody.shop.svc.cluster.local", "A"), ("api.example.com", "SRV")]
)
def test_all_else_is_for_others_to_answer(names: Names, name: str, kind: str) -> None:
    assert ask(names, name, kind) is None


@pytest.mark.parametrize("packet", [b"", b"x", b"\0" * 11, b"\xff" * 40])
def test_what_is_no_query_gets_no_answer(names: Names, packet: bytes) -> None:
    assert names.answer(packet) is None


def test_a_host_that_is_gone_is_not_known_any_more() -> None:
    table = Names("shop", "cluster.local", "", Random(7))
    table.put("api.example.com", "1", NameInfo(("192.0.2.1",)))
    assert table.versions == {"api.example.com": "1"}
    table.drop(["api.example.com", "never.known"])
    assert table.versions == {}
    assert ask(table, "api.example.com") is None


def test_the_addresses_of_a_host_take_turns_and_are_cut_over_udp() -> None:
    table = Names("shop", "cluster.local", "", Random(7))
    table.put("many.example", "1", NameInfo(tuple(f"10.244.2.{number}" for number in range(100))))
    query = dns.message.make_query("many.example", "A").to_wire()
    cut, whole = table.answer(query), table.answer(query, over_tcp=True)
    assert cut is not None
    assert whole is not None
    assert len(cut) <= 512
    assert dns.message.from_wire(cut).flags & dns.flags.TC
    assert len(dns.message.from_wire(whole).answer[0]) == 100
    table.put("many.example", "2", NameInfo(("10.244.2.1", "10.244.2.2")))
    assert {(ask(table, "many.example") or [""])[0] for _ in range(50)} == {
        "many.example. 10.244.2.1",
        "many.example. 10.244.2.2",
    }
