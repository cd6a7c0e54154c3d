"""The network of one machine's mesh: a bridge, a pair of links for each pod, and addresses that are not soon given again.

Pods are neighbours on the bridge `mesh0`. Every address of the services' range belongs to the bridge's side, so that
cluster DNS and the forwarders for pods without a sidecar can listen on a service's own address.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from meltemi.local.capture import Rule
from meltemi.local.links import LOOPBACK, Links
from meltemi.local.nftables import write_rules
from meltemi.local.syscalls import within_netns

POD_NETWORK = IPv4Network("10.244.0.0/16")
SERVICE_NETWORK = IPv4Network("10.96.0.0/16")
BRIDGE = "mesh0"
_POD_LINK = "eth0"


class AddressesExhaustedError(Exception):
    """Every address of the pods' network is taken."""


class AddressPool:
    """Gives addresses in turn; a released one comes again only when all others have been given.

    Neighbours remember the hardware address of an address for a while, so that one given again at once would mislead.
    """

    def __init__(self, network: IPv4Network, *, reserved: int) -> None:
        """The first `reserved` addresses of the network (among them its own) and the last are never given."""
        self._first = int(network.network_address) + reserved
        self._count = network.num_addresses - reserved - 1
        self._next = 0
        self._taken: set[IPv4Address] = set()

    def __repr__(self) -> str:
        return f"<AddressPool: {len(self._taken)} of {self._count} taken>"

    def take(self) -> IPv4Address:
        """An address that nobody has. Raises AddressesExhaustedError."""
        for step in range(self._count):
            offset = (self._next + step) % self._count
            address = IPv4Address(self._first + offset)
            if address not in self._taken:
                self._next = offset + 1
                self._taken.add(address)
                return address
        raise AddressesExhaustedError(f"all {self._count} addresses of the pods' network are taken")

    def release(self, address: IPv4Address) -> None:
        """Gives an address back."""
        self._taken.discard(address)


class MeshNetwork:
    """The sandbox's own network: makes the bridge in the namespace of the calling thread, and joins pods to it."""

    def __init__(self, pods: IPv4Network = POD_NETWORK, services: IPv4Network = SERVICE_NETWORK) -> None:
        self.gateway = IPv4Address(int(pods.network_address) + 1)
        self._pods = pods
        self._numbers = itertools.count(1)
        self._links = Links()
        self._links.set_up(LOOPBACK)
        self._bridge = self._links.add_bridge(BRIDGE)
        self._links.add_address(self._bridge, IPv4Interface((self.gateway, pods.prefixlen)))
        self._links.make_local(services)

    def __repr__(self) -> str:
        return f"<MeshNetwork {self._pods} on {BRIDGE}>"

    def join(self, netns: int, address: IPv4Address) -> str:
        """Gives a pod's network namespace its link, address and route; the name of the link here.

        It takes a few milliseconds and does not wait for anything. Raises OSError if the kernel refuses.
        """
        name = f"pod{next(self._numbers)}"
        self._links.add_veth(name, bridge=self._bridge, peer=_POD_LINK, peer_netns=netns)
        with within_netns(netns):
            inside = Links()
            try:
                inside.set_up(LOOPBACK)
                link = inside.index(_POD_LINK)
                inside.set_up(link)
                inside.add_address(link, IPv4Interface((address, self._pods.prefixlen)))
                inside.add_default_route(self.gateway)
            finally:
                inside.close()
        return name

    def capture(self, netns: int, rules: Sequence[Rule]) -> None:
        """Writes capture rules into a pod's network namespace. Raises OSError if the kernel refuses."""
        with within_netns(netns):
            write_rules(rules)

    def leave(self, name: str) -> None:
        """Removes a pod's link, if the end of its namespace has not done so already."""
        try:
            self._links.delete(name)
        except OSError as error:
            if error.errno != 19:  # ENODEV: it went with the namespace
                raise

    def close(self) -> None:
        """Closes the netlink socket; the network goes with its namespace."""
        self._links.close()
