"""The cluster's names: what each resolves to, after Kubernetes' "DNS-Based Service Discovery" (version 1.1.0).

`NameTable` is plain data: services with their addresses and endpoints, and other hosts that the mesh knows. `Resolver`
answers a query from it and from nothing else. A name of the cluster's domain is answered with authority: records, an
empty answer (the name exists, but not this type) or NXDOMAIN; for any other name there is no answer here, and the server
asks the machine's own resolvers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, ip_address

import msgspec
from dnslib import CNAME, PTR, QTYPE, RCODE, RR, SOA, SRV, TXT, DNSRecord

from meltemi.agent.dns_messages import TTL, address_record, packed, query_in

_VERSION = "1.1.0"
_REMEMBERED = 4096


class NamedPort(msgspec.Struct, frozen=True, order=True):
    """A port of a service, with its protocol in lower case."""

    name: str
    protocol: str
    port: int


class NamedEndpoint(msgspec.Struct, frozen=True, order=True):
    """An endpoint of a headless service. Without a host name it has one made of its address."""

    ip: str
    hostname: str = ""


class NamedService(msgspec.Struct, frozen=True):
    """A service: with addresses, or headless with endpoints that are ready, or an alias of another name."""

    name: str
    namespace: str
    addresses: tuple[str, ...] = ()
    endpoints: tuple[NamedEndpoint, ...] = ()
    ports: tuple[NamedPort, ...] = ()
    external_name: str = ""


class NameTable(msgspec.Struct, frozen=True):
    """All names that are known. `hosts` are names outside the cluster's domain, with their addresses."""

    services: tuple[NamedService, ...] = ()
    hosts: Mapping[str, tuple[str, ...]] = {}
    domain: str = "cluster.local"


class Resolver:
    """Answers from a table. Replace the table with `update`; nothing else changes an answer."""

    def __init__(self, table: NameTable | None = None) -> None:
        self._index = _Index(table or NameTable())
        self._remembered: dict[bytes, bytes | None] = {}

    def __repr__(self) -> str:
        return f"<Resolver: {len(self._index.records)} names>"

    def update(self, table: NameTable) -> None:
        """The names are these from now on."""
        self._index = _Index(table)
        self._remembered.clear()

    def answer(self, query: bytes, *, over_tcp: bool = False) -> bytes | None:
        """The answer to a query, or None for a name that others know (or a packet that is no query).

        Over UDP it is cut to what the client can take, and says so (TC).
        """
        key = query[2:] + bytes([over_tcp])
        if key in self._remembered:
            known = self._remembered[key]
            return None if known is None else query[:2] + known[2:]
        answer = self._answer(query, over_tcp)
        if len(self._remembered) >= _REMEMBERED:
            self._remembered.clear()
        self._remembered[key] = answer
        return answer

    def chase(self, answer: bytes) -> bytes | None:
        """The query to put to others for an answer that is only an alias of a name outside; None if it is not."""
        told = DNSRecord.parse(answer)
        if len(told.rr) != 1 or told.rr[0].rtype != QTYPE.CNAME or told.q.qtype not in (QTYPE.A, QTYPE.AAAA):
            return None
        target = str(told.rr[0].rdata)
        if self._index.look_up(target.rstrip(".").lower(), QTYPE[told.q.qtype]) is not None:
            return None
        return bytes(DNSRecord.question(target, QTYPE[told.q.qtype]).pack())

    def _answer(self, query: bytes, over_tcp: bool) -> bytes | None:
        asked = query_in(query)
        if asked is None:
            return None
        name = str(asked.q.qname).rstrip(".").lower()
        outcome = self._index.look_up(name, QTYPE.get(asked.q.qtype, ""))
        if outcome is None:
            return None
        reply = asked.reply(ra=1, aa=1)
        reply.header.rcode = RCODE.NXDOMAIN if outcome.is_unknown else RCODE.NOERROR
        for record in outcome.answers:
            reply.add_answer(record)
        for record in outcome.additional:
            reply.add_ar(record)
        if not outcome.answers:
            reply.add_auth(self._index.authority())
        return packed(reply, asked, over_tcp=over_tcp)


class _Outcome(msgspec.Struct, frozen=True):
    """What was found: records; or none and the name exists, or does not."""

    answers: tuple[RR, ...] = ()
    additional: tuple[RR, ...] = ()
    is_unknown: bool = False


class _Index:
    """The table by full name, in lower case and without the last dot."""

    def __init__(self, table: NameTable) -> None:
        self._zone = table.domain.lower()
        self.records: dict[str, list[RR]] = {}
        self._targets: dict[str, list[RR]] = {}
        self._nodes: set[str] = set()
        for service in table.services:
            self._add_service(service)
        for host, addresses in table.hosts.items():
            self._add(host.lower(), (address_record(host, ip) for ip in addresses))
        self._add(
            f"dns-version.{self._zone}", [RR(f"dns-version.{self._zone}", QTYPE.TXT, rdata=TXT(_VERSION), ttl=TTL)]
        )
        self._nodes.update((f"svc.{self._zone}", f"pod.{self._zone}"))

    def look_up(self, name: str, kind: str) -> _Outcome | None:
        """What is known about a name; None if the name is not of this table's making."""
        records = self.records.get(name)
        if records is None:
            records = list(self._pod_by_address(name))
        if not records:
            if name == self._zone or name in self._nodes or name in self.records:
                return _Outcome()
            return _Outcome(is_unknown=True) if self._is_ours(name) else None
        alias = [record for record in records if record.rtype == QTYPE.CNAME]
        if alias and kind in ("A", "AAAA", "CNAME"):
            target = self.records.get(str(alias[0].rdata).rstrip(".").lower(), [])
            return _Outcome((*alias, *(record for record in target if QTYPE.get(record.rtype) == kind)))
        found = tuple(record for record in records if kind == "ANY" or QTYPE.get(record.rtype) == kind)
        additional: list[RR] = []
        for record in found:
            if record.rtype == QTYPE.SRV:
                additional += self.records.get(str(record.rdata.target).rstrip("."), [])
        glue = {str(record): record for record in additional if record.rtype in (QTYPE.A, QTYPE.AAAA)}
        return _Outcome(found, tuple(glue.values()))

    def authority(self) -> RR:
        """The zone's SOA record, whose minimum says for how long a "no" is good."""
        times = (1, 7200, 1800, 86400, TTL)
        return RR(self._zone, QTYPE.SOA, rdata=SOA(f"ns.dns.{self._zone}", f"hostmaster.{self._zone}", times), ttl=TTL)

    def _is_ours(self, name: str) -> bool:
        if name.endswith(f".{self._zone}"):
            return True
        address = _reversed(name)
        return address is not None and any(address in network for network in _OUR_NETWORKS)

    def _add(self, name: str, records: Iterable[RR]) -> None:
        self.records.setdefault(name, []).extend(records)
        parent = name.partition(".")[2]
        while parent.endswith(f".{self._zone}"):
            self._nodes.add(parent)
            parent = parent.partition(".")[2]

    def _add_service(self, service: NamedService) -> None:
        name = f"{service.name}.{service.namespace}.svc.{self._zone}".lower()
        if service.external_name:
            target = service.external_name.rstrip(".")
            self._add(name, [RR(name, QTYPE.CNAME, rdata=CNAME(target), ttl=TTL)])
            return
        targets = [name]
        self._add(name, (address_record(name, ip) for ip in service.addresses))
        for ip in service.addresses:
            self._add_pointer(ip, name)
        if not service.addresses:
            targets = []
            for endpoint in service.endpoints:
                self._add(name, [address_record(name, endpoint.ip)])
                label = endpoint.hostname.lower() or endpoint.ip.replace(".", "-")
                targets.append(f"{label}.{name}")
                self._add(targets[-1], [address_record(targets[-1], endpoint.ip)])
                if endpoint.hostname:
                    self._add_pointer(endpoint.ip, targets[-1])
        for port in service.ports:
            if port.name:
                at = f"_{port.name}._{port.protocol}.{name}".lower()
                self._add(at, (_service(at, target, port.port) for target in targets))
                self._add(name, (_service(name, target, port.port) for target in targets))

    def _add_pointer(self, ip: str, name: str) -> None:
        at = ip_address(ip).reverse_pointer
        self._add(at, [RR(at, QTYPE.PTR, rdata=PTR(name), ttl=TTL)])

    def _pod_by_address(self, name: str) -> Iterator[RR]:
        """`10-244-1-7.<namespace>.pod.<zone>` stands for the address in it."""
        labels = name.removesuffix(f".pod.{self._zone}").split(".")
        if not name.endswith(f".pod.{self._zone}") or len(labels) != 2:
            return
        try:
            yield address_record(name, str(IPv4Address(labels[0].replace("-", "."))))
        except ValueError:
            return


_OUR_NETWORKS = (IPv4Network("10.244.0.0/16"), IPv4Network("10.96.0.0/16"))


def _reversed(name: str) -> IPv4Address | None:
    labels = name.removesuffix(".in-addr.arpa").split(".")
    if not name.endswith(".in-addr.arpa") or len(labels) != 4:
        return None
    try:
        return IPv4Address(".".join(reversed(labels)))
    except ValueError:
        return None


def _service(name: str, target: str, port: int) -> RR:
    return RR(name, QTYPE.SRV, rdata=SRV(0, 100, port, target), ttl=TTL)
