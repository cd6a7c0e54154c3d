"""The DNS of one machine's mesh: the names of services and pods, and the way out for all others.

The names form a `Zone`, made anew whenever services or endpoints change; answering is a pure function of a query and a
zone. What is outside the zone goes to the resolvers of the machine, through sockets of its own.

Source: the Kubernetes DNS specification (`<service>.<namespace>.svc.<domain>`, headless records, SRV), RFC 1035, 2308.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import cast

import msgspec
from dnslib import AAAA, CNAME, QTYPE, RCODE, RR, SOA, SRV, A, DNSRecord
from dnslib.dns import DNSError

from meltemi.api.core import EndpointSlice, Service
from meltemi.api.networking import ServiceEntry
from meltemi.base.hosts import is_address

PORT = 53
_TTL = 5
_LONGEST_UDP = 1232
_UPSTREAM_SECONDS = 3.0
_MOST_CNAMES = 8


class Zone(msgspec.Struct, frozen=True):
    """The names of a mesh, in lower case and without a final dot. `domain` is what the mesh alone answers for."""

    domain: str = "cluster.local"
    addresses: Mapping[str, tuple[str, ...]] = {}
    aliases: Mapping[str, str] = {}
    servers: Mapping[str, tuple[tuple[int, str], ...]] = {}  # SRV: port and target

    def has_below(self, name: str) -> bool:
        """Whether the name is the mesh's own to answer for."""
        return name == self.domain or name.endswith(f".{self.domain}")


def zone_of(
    services: Iterable[Service],
    slices: Iterable[EndpointSlice],
    entries: Iterable[ServiceEntry] = (),
    domain: str = "cluster.local",
) -> Zone:
    """The zone of these services. ServiceEntries are answered with the addresses that they were given."""
    addresses: dict[str, tuple[str, ...]] = {}
    aliases: dict[str, str] = {}
    servers: dict[str, tuple[tuple[int, str], ...]] = {}
    by_service: dict[tuple[str, str], list[EndpointSlice]] = {}
    for each in slices:
        by_service.setdefault((each.namespace, each.service_name), []).append(each)
    for service in services:
        name = f"{service.name}.{service.namespace}.svc.{domain}"
        if service.spec.external_name:
            aliases[name] = service.spec.external_name.rstrip(".").lower()
        elif service.spec.headless:
            addresses |= _headless(name, by_service.get((service.namespace, service.name), ()))
        elif service.spec.cluster_ip:
            addresses[name] = (service.spec.cluster_ip,)
        for port in service.spec.ports:
            if port.name:
                servers[f"_{port.name}._{port.protocol.lower()}.{name}"] = ((port.port, name),)
    for entry in entries:
        own = tuple(address for address in entry.spec.addresses if is_address(address))
        for host in entry.spec.hosts:
            if own and not host.startswith("*"):
                addresses.setdefault(host.lower(), own)
    return Zone(domain, addresses, aliases, servers)


def _headless(name: str, slices: Iterable[EndpointSlice]) -> dict[str, tuple[str, ...]]:
    """The addresses of a headless service: all that are ready under its own name, and each under its host name."""
    ready: dict[str, None] = {}
    found: dict[str, tuple[str, ...]] = {}
    for each in slices:
        for endpoint in each.endpoints:
            if endpoint.conditions is not None and endpoint.conditions.ready is False:
                continue
            ready.update(dict.fromkeys(endpoint.addresses))
            if endpoint.hostname:
                found[f"{endpoint.hostname}.{name}"] = tuple(endpoint.addresses)
    return {**found, name: tuple(ready)}


def answer(packet: bytes, zone: Zone) -> bytes | None:
    """The answer to a query, or None if it is not the zone's to answer. Raises ValueError for what is no query."""
    try:
        query = DNSRecord.parse(packet)
    except (DNSError, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"not a DNS query: {error}") from error
    if query.header.qr or not query.questions:
        raise ValueError("not a DNS query")
    question = query.questions[0]
    name = str(question.qname).rstrip(".").lower()
    reply = query.reply(ra=1, aa=1)
    known = _fill(reply, name, QTYPE.get(question.qtype), zone)
    if not known and not zone.has_below(name):
        return None
    if not known:
        reply.header.rcode = RCODE.NXDOMAIN
    if not reply.rr:
        reply.add_auth(_start_of_authority(zone))
    return bytes(reply.pack())


def _fill(reply: DNSRecord, name: str, kind: str, zone: Zone) -> bool:
    """Put in the records of a name; tells whether the name exists. Another kind of record of it: no data, but no error."""
    for _ in range(_MOST_CNAMES):
        alias = zone.aliases.get(name)
        if alias is None:
            break
        reply.add_answer(RR(name, QTYPE.CNAME, ttl=_TTL, rdata=CNAME(alias)))
        name = alias
    if name in zone.servers:
        if kind in ("SRV", "ANY"):
            for port, target in zone.servers[name]:
                reply.add_answer(RR(name, QTYPE.SRV, ttl=_TTL, rdata=SRV(0, 100, port, target)))
        return True
    found = zone.addresses.get(name)
    if found is None:
        return bool(reply.rr) or any(_is_above(name, other) for other in zone.addresses)
    for address in found:
        if ":" in address and kind in ("AAAA", "ANY"):
            reply.add_answer(RR(name, QTYPE.AAAA, ttl=_TTL, rdata=AAAA(address)))
        elif ":" not in address and kind in ("A", "ANY"):
            reply.add_answer(RR(name, QTYPE.A, ttl=_TTL, rdata=A(address)))
    return True


def _is_above(name: str, other: str) -> bool:
    return other.endswith(f".{name}")


def _start_of_authority(zone: Zone) -> RR:
    times = (1, 7200, 1800, 86400, _TTL)
    server = f"ns.dns.{zone.domain}"
    return RR(zone.domain, QTYPE.SOA, ttl=_TTL, rdata=SOA(server, f"hostmaster.{zone.domain}", times))


def failure(packet: bytes) -> bytes:
    """The answer SERVFAIL to a query that nobody can answer. Raises ValueError for what is no query."""
    try:
        reply = DNSRecord.parse(packet).reply(ra=1)
    except (DNSError, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"not a DNS query: {error}") from error
    reply.header.rcode = RCODE.SERVFAIL
    return bytes(reply.pack())


def shortened(packet: bytes) -> bytes:
    """An answer that fits into a datagram: one that is too long is cut, and says so, so that TCP is tried."""
    if len(packet) <= _LONGEST_UDP:
        return packet
    return bytes(DNSRecord.parse(packet).truncate().pack())


def resolvers(path: Path = Path("/etc/resolv.conf")) -> tuple[IPv4Address, ...]:
    """The IPv4 name servers that the machine uses."""
    found = []
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            words = line.split()
            if len(words) > 1 and words[0] == "nameserver":
                with contextlib.suppress(ValueError):
                    found.append(IPv4Address(words[1]))
    return tuple(found)


Dial = Callable[[str, IPv4Address, int], socket.socket]
"""Opens a socket of the machine outside: "tcp" or "udp", address and port."""


class DnsServer:
    """Answers on UDP and TCP sockets. `zone` is asked for each query."""

    def __init__(self, zone: Callable[[], Zone], upstream: Sequence[IPv4Address], dial: Dial) -> None:
        self._zone = zone
        self._upstream = tuple(upstream)
        self._dial = dial
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, datagrams: socket.socket, connections: socket.socket) -> None:
        """Serve until cancelled. The sockets are bound; they are closed at the end."""
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._serve, sock=connections)
        transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=datagrams)
        try:
            await asyncio.Event().wait()
        finally:
            server.close()
            transport.close()

    def take(self, packet: bytes, answer_to: Callable[[bytes], None]) -> None:
        """A query came in a datagram: answer it when the answer is there."""
        task = asyncio.ensure_future(self._answer(packet, answer_to))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, packet: bytes, answer_to: Callable[[bytes], None]) -> None:
        with contextlib.suppress(ValueError, OSError):
            answer_to(shortened(await self.resolve(packet)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ValueError, OSError, asyncio.IncompleteReadError):
            while True:
                length = int.from_bytes(await reader.readexactly(2))
                reply = await self.resolve(await reader.readexactly(length))
                writer.write(len(reply).to_bytes(2) + reply)
                await writer.drain()
        writer.close()

    async def resolve(self, packet: bytes) -> bytes:
        """The answer to a query: the zone's, a resolver's of the machine, or SERVFAIL. Raises ValueError for garbage."""
        reply = answer(packet, self._zone())
        if reply is not None:
            return reply
        for server in self._upstream:
            with contextlib.suppress(OSError, TimeoutError):
                return await self._ask(server, packet)
        return failure(packet)

    async def _ask(self, server: IPv4Address, packet: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        with self._dial("udp", server, PORT) as upstream:
            async with asyncio.timeout(_UPSTREAM_SECONDS):
                await loop.sock_sendall(upstream, packet)
                while True:
                    reply = await loop.sock_recv(upstream, 4096)
                    if reply[:2] == packet[:2]:
                        return reply


class _Datagrams(asyncio.DatagramProtocol):
    """The UDP side of a server."""

    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is served."""
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """One query."""
        self._server.take(data, lambda reply: self._send(reply, addr))

    def _send(self, reply: bytes, client: tuple[str, int]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(reply, client)
