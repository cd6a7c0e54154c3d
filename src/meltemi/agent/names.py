"""The names that one proxy may know, and the answers that follow from them.

The control plane tells of each host by itself; the table keeps them, with their versions, for as long as the proxy lives.
A query is for a host as it is, for a short form of a Kubernetes service's, for one that a wildcard covers, or for any of
these with the pod's first search domain behind it, which a client tries first. The last is answered as an alias, so that
the client needs no second query. A host that is known but has no address of the kind asked for is answered with nothing;
whatever is asked but addresses, and every other name, is for others to answer.

Source: Istio's DNS proxying (`ISTIO_META_DNS_CAPTURE`).
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from random import Random

import msgspec
from dnslib import CNAME, QTYPE, RR

from meltemi.agent.dns_messages import TTL, address_record, packed, query_in
from meltemi.agent.wire import NameInfo
from meltemi.base.discovery import KUBERNETES
from meltemi.base.hosts import is_address

_VERSIONS = {QTYPE.A: 4, QTYPE.AAAA: 6}  # of the Internet protocol, by type of record


class Names:
    """The table of one proxy. `domain` is the cluster's, `search` the first search domain of the pod ("" none)."""

    def __init__(self, namespace: str, domain: str, search: str, random: Random) -> None:
        self.versions: dict[str, str] = {}
        self._hosts: dict[str, NameInfo] = {}
        self._endings = (f".{namespace}.svc.{domain}", f".svc.{domain}", f".{domain}")
        self._search = f".{search.lower().rstrip('.')}" if search else ""
        self._random = random

    def __repr__(self) -> str:
        return f"<Names: {len(self._hosts)} hosts>"

    def put(self, host: str, version: str, info: NameInfo) -> None:
        """A host has these addresses from now on."""
        self.versions[host] = version
        known = msgspec.structs.replace(info, ips=tuple(filter(is_address, info.ips)))
        self._hosts[host.lower().rstrip(".")] = known

    def drop(self, hosts: Iterable[str]) -> None:
        """These hosts are not known any more."""
        for host in hosts:
            self.versions.pop(host, None)
            self._hosts.pop(host.lower().rstrip("."), None)

    def answer(self, query: bytes, *, over_tcp: bool = False) -> bytes | None:
        """The answer to a query, or None if others are to be asked."""
        asked = query_in(query)
        if asked is None or asked.q.qtype not in _VERSIONS:
            return None
        name = str(asked.q.qname).rstrip(".")
        found = self._find(name.lower())
        if found is None:
            return None
        host, info = found
        reply = asked.reply(ra=1, aa=1)
        if host != name.lower():
            reply.add_answer(RR(name, QTYPE.CNAME, rdata=CNAME(host), ttl=TTL))
            name = host
        addresses = [ip for ip in info.ips if ip_address(ip).version == _VERSIONS[asked.q.qtype]]
        self._random.shuffle(addresses)  # clients take the first one
        for ip in addresses:
            reply.add_answer(address_record(name, ip))
        return packed(reply, asked, over_tcp=over_tcp)

    def chase(self, answer: bytes) -> bytes | None:
        """No alias of this table leads outside."""
        return None

    def _find(self, name: str) -> tuple[str, NameInfo] | None:
        """The name that the addresses belong to, and they: another name than was asked for is what that stands for."""
        info = self._known(name)
        if info is not None:
            return name, info
        if self._search and name.endswith(self._search):
            host = name.removesuffix(self._search)
            info = self._known(host)
            if info is not None:
                return host, info
        return None

    def _known(self, name: str) -> NameInfo | None:
        info = self._hosts.get(name)
        if info is not None:
            return info
        for ending in self._endings:
            info = self._hosts.get(name + ending)
            if info is not None and info.registry == KUBERNETES:
                return info
        parent = name.partition(".")[2]
        while parent:
            info = self._hosts.get(f"*.{parent}")
            if info is not None:
                return info
            parent = parent.partition(".")[2]
        return None
