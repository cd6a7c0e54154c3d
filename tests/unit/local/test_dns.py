"""The cluster's names, asked with an independent client (dnspython)."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import IPv4Address
from typing import cast

import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

from meltemi.agent.dns_messages import failure
from meltemi.agent.dns_server import DnsServer, Upstream
from meltemi.local.dns import NamedEndpoint, NamedPort, NamedService, NameTable, Resolver

TABLE = NameTable(
    services=(
        NamedService("reviews", "default", addresses=("10.96.0.20",), ports=(NamedPort("http", "tcp", 9080),)),
        NamedService(
            "db",
            "data",
            endpoints=(NamedEndpoint("10.244.1.1", "db-0"), NamedEndpoint("10.244.1.2")),
            ports=(NamedPort("pg", "tcp", 5432),),
        ),
        NamedService("empty", "data"),
        NamedService("alias", "default", external_name="reviews.default.svc.cluster.local"),
        NamedService("outside", "default", external_name="www.example.org"),
    ),
    hosts={"api.example.com": ("240.240.0.1",)},
)
RESOLVER = Resolver(TABLE)


def ask(name: str, kind: str = "A", **options: object) -> dns.message.Message:
    """The answer to one question."""
    query = dns.message.make_query(name, kind, **options)  # type: ignore[arg-type]
    wire = RESOLVER.answer(query.to_wire())
    assert wire is not None
    answer = dns.message.from_wire(wire)
    assert query.is_response(answer)
    return answer


def records(name: str, kind: str = "A") -> list[str]:
    """The answer's records as text."""
    return sorted(record.to_text() for group in ask(name, kind).answer for record in group)


@pytest.mark.parametrize("name", ["reviews.default.svc.cluster.local", "Reviews.DEFAULT.svc.cluster.local."])
def test_a_service_has_its_address_in_any_case_of_letters(name: str) -> None:
    assert records(name) == ["10.96.0.20"]


def test_a_headless_service_has_the_addresses_of_its_endpoints_and_their_names() -> None:
    assert records("db.data.svc.cluster.local") == ["10.244.1.1", "10.244.1.2"]
    assert records("db-0.db.data.svc.cluster.local") == ["10.244.1.1"]
    assert records("10-244-1-2.db.data.svc.cluster.local") == ["10.244.1.2"]


def test_named_ports_have_srv_records_with_the_addresses_beside_them() -> None:
    answer = ask("_pg._tcp.db.data.svc.cluster.local", "SRV")
    assert sorted(record.to_text() for record in answer.answer[0]) == [
        "0 100 5432 10-244-1-2.db.data.svc.cluster.local.",
        "0 100 5432 db-0.db.data.svc.cluster.local.",
    ]
    assert sorted(record.to_text() for group in answer.additional for record in group) == ["10.244.1.1", "10.244.1.2"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("reviews.default.svc.cluster.local", "AAAA"),
        ("empty.data.svc.cluster.local", "A"),
        ("default.svc.cluster.local", "A"),
        ("svc.cluster.local", "A"),
        ("cluster.local", "MX"),
    ],
)
def test_a_name_without_that_type_is_no_error_and_says_for_how_long(name: str, kind: str) -> None:
    answer = ask(name, kind)
    assert answer.rcode() == dns.rcode.NOERROR
    assert not answer.answer
    assert answer.authority[0].rdtype == dns.rdatatype.SOA


@pytest.mark.parametrize(
    "name", ["nobody.default.svc.cluster.local", "reviews.other.svc.cluster.local", "www.example.org.cluster.local"]
)
def test_a_name_of_the_cluster_that_does_not_exist_is_nxdomain(name: str) -> None:
    assert ask(name).rcode() == dns.rcode.NXDOMAIN


def test_an_alias_of_a_service_comes_with_its_address() -> None:
    expected = ["10.96.0.20", "reviews.default.svc.cluster.local."]
    assert records("alias.default.svc.cluster.local") == expected


def test_a_host_that_the_mesh_knows_has_its_address() -> None:
    assert records("api.example.com") == ["240.240.0.1"]


def test_addresses_have_names() -> None:
    assert records("20.0.96.10.in-addr.arpa", "PTR") == ["reviews.default.svc.cluster.local."]
    assert records("1.1.244.10.in-addr.arpa", "PTR") == ["db-0.db.data.svc.cluster.local."]
    assert ask("9.9.244.10.in-addr.arpa", "PTR").rcode() == dns.rcode.NXDOMAIN
    assert records("10-244-1-7.default.pod.cluster.local") == ["10.244.1.7"]


@pytest.mark.parametrize("name", ["www.example.org", "local", "4.3.2.1.in-addr.arpa"])
def test_other_names_are_for_others_to_answer(name: str) -> None:
    assert RESOLVER.answer(dns.message.make_query(name, "A").to_wire()) is None


@pytest.mark.parametrize("packet", [b"", b"x", b"\0" * 11, b"\xff" * 40])
def test_what_is_no_query_gets_no_answer(packet: bytes) -> None:
    assert RESOLVER.answer(packet) is None
    assert packet == b"\xff" * 40 or failure(packet) is None or len(packet) >= 12


def test_a_long_answer_is_cut_over_udp_and_whole_over_tcp() -> None:
    endpoints = tuple(NamedEndpoint(f"10.244.2.{number}") for number in range(100))
    resolver = Resolver(NameTable((NamedService("many", "d", endpoints=endpoints),)))
    query = dns.message.make_query("many.d.svc.cluster.local", "A").to_wire()
    cut = resolver.answer(query)
    whole = resolver.answer(query, over_tcp=True)
    assert cut is not None
    assert whole is not None
    assert len(cut) <= 512
    assert dns.message.from_wire(cut).flags & dns.flags.TC
    assert len(dns.message.from_wire(whole).answer[0]) == 100


def test_a_new_table_changes_the_answers_that_were_remembered() -> None:
    resolver = Resolver(TABLE)
    query = dns.message.make_query("reviews.default.svc.cluster.local", "A").to_wire()
    first = resolver.answer(query)
    assert resolver.answer(b"\x12\x34" + query[2:]) == b"\x12\x34" + (first or b"")[2:]
    resolver.update(NameTable())
    changed = resolver.answer(query)
    assert changed is not None
    assert dns.message.from_wire(changed).rcode() == dns.rcode.NXDOMAIN


class Outside(asyncio.DatagramProtocol):
    """A resolver outside that answers every question with 192.0.2.1."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = dns.message.make_response(dns.message.from_wire(data))
        name = answer.question[0].name
        answer.answer.append(dns.rrset.from_text(name, 60, "IN", "A", "192.0.2.1"))
        self.transport.sendto(answer.to_wire(), addr)


async def served(query: dns.message.Message, *, has_outside: bool, tcp: bool = False) -> dns.message.Message:
    """What a server says, with or without a resolver outside."""
    loop = asyncio.get_running_loop()
    outside, _ = await loop.create_datagram_endpoint(Outside, local_addr=("127.0.0.1", 0))
    there = outside.get_extra_info("sockname")

    def dial(protocol: str, _address: IPv4Address, _port: int) -> socket.socket:
        assert protocol == "udp"
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.setblocking(False)
        opened.connect(there)
        return opened

    server = DnsServer(Resolver(TABLE), Upstream((IPv4Address("192.0.2.53"),) if has_outside else (), dial))
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    await server.start("127.0.0.1", port)
    try:
        exchange = dns.query.tcp if tcp else dns.query.udp
        return await asyncio.to_thread(exchange, query, "127.0.0.1", 5, port)
    finally:
        await server.aclose()
        outside.close()


async def test_the_server_answers_over_both_protocols() -> None:
    for tcp in (False, True):
        answer = await served(
            dns.message.make_query("reviews.default.svc.cluster.local", "A"), has_outside=False, tcp=tcp
        )
        assert answer.answer[0][0].to_text() == "10.96.0.20"


async def test_other_names_are_asked_outside_and_fail_clearly_without() -> None:
    query = dns.message.make_query("www.example.org", "A")
    assert (await served(query, has_outside=True)).answer[0][0].to_text() == "192.0.2.1"
    assert (await served(query, has_outside=False)).rcode() == dns.rcode.SERVFAIL


async def test_an_alias_of_a_name_outside_comes_with_the_address_from_outside() -> None:
    answer = await served(dns.message.make_query("outside.default.svc.cluster.local", "A"), has_outside=True)
    assert [group[0].to_text() for group in answer.answer] == ["www.example.org.", "192.0.2.1"]
