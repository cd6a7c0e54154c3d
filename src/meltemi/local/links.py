"""Links, addresses and routes of one network namespace, through rtnetlink.

`Links` is made inside a namespace (see `syscalls.within_netns`) and stays bound to it. Each method is one request; what
exists already raises FileExistsError, as the kernel says it, so that nobody takes a stranger's link for his own.
"""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from meltemi.local.netlink import Flag, Message, NetlinkSocket, Protocol, attribute, nested, text

_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBi")
_ROUTE = struct.Struct("=BBBBBBBBI")
_NEW_LINK, _DELETE_LINK, _GET_LINK, _NEW_ADDRESS, _NEW_ROUTE = 16, 17, 18, 20, 24
_IFLA_IFNAME, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 3, 10, 18, 28
_INFO_KIND, _INFO_DATA = 1, 2
_VETH_PEER = 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_IFF_UP = 1
_TABLE_MAIN, _TABLE_LOCAL = 254, 255
_BY_BOOT = 3
_SCOPE_UNIVERSE, _SCOPE_HOST = 0, 254
_UNICAST, _LOCAL = 1, 2
_CREATE = Flag.CREATE | Flag.EXCLUSIVE
LOOPBACK = 1


class Links:
    """The links of the network namespace in which the calling thread is when this is made."""

    def __init__(self) -> None:
        self._netlink = NetlinkSocket(Protocol.ROUTE)

    def close(self) -> None:
        """Closes the netlink socket; the links stay."""
        self._netlink.close()

    def index(self, name: str) -> int:
        """A link's index. Raises OSError (ENODEV) if there is none of that name."""
        answer = self._netlink.ask(Message(_GET_LINK, _link() + text(_IFLA_IFNAME, name)))
        return int(_LINK.unpack_from(answer)[2])

    def add_bridge(self, name: str) -> int:
        """Makes a bridge and brings it up; its index."""
        info = nested(_IFLA_LINKINFO, text(_INFO_KIND, "bridge"))
        self._netlink.request(Message(_NEW_LINK, _link(up=True) + text(_IFLA_IFNAME, name) + info, _CREATE))
        return self.index(name)

    def add_veth(self, name: str, *, bridge: int, peer: str, peer_netns: int) -> None:
        """Makes a pair of links: `name` here, up, in the bridge; `peer` in the namespace with that descriptor, down."""
        other_end = _link() + text(_IFLA_IFNAME, peer) + attribute(_IFLA_NET_NS_FD, _number(peer_netns))
        data = nested(_INFO_DATA, attribute(_VETH_PEER, other_end))
        info = nested(_IFLA_LINKINFO, text(_INFO_KIND, "veth"), data)
        master = attribute(_IFLA_MASTER, _number(bridge))
        self._netlink.request(Message(_NEW_LINK, _link(up=True) + text(_IFLA_IFNAME, name) + master + info, _CREATE))

    def delete(self, name: str) -> None:
        """Removes a link, and the other end of a pair."""
        self._netlink.request(Message(_DELETE_LINK, _link() + text(_IFLA_IFNAME, name)))

    def set_up(self, index: int) -> None:
        """Brings a link up."""
        self._netlink.request(Message(_NEW_LINK, _link(index, up=True)))

    def add_address(self, index: int, address: IPv4Interface) -> None:
        """Gives a link an address and the route to the network it is in."""
        head = _ADDRESS.pack(socket.AF_INET, address.network.prefixlen, 0, 0, index)
        body = head + attribute(_IFA_LOCAL, address.ip.packed) + attribute(_IFA_ADDRESS, address.ip.packed)
        self._netlink.request(Message(_NEW_ADDRESS, body, _CREATE))

    def add_default_route(self, gateway: IPv4Address) -> None:
        """Sends whatever is not for a neighbour to `gateway`."""
        head = _ROUTE.pack(socket.AF_INET, 0, 0, 0, _TABLE_MAIN, _BY_BOOT, _SCOPE_UNIVERSE, _UNICAST, 0)
        self._netlink.request(Message(_NEW_ROUTE, head + attribute(_RTA_GATEWAY, gateway.packed), _CREATE))

    def make_local(self, network: IPv4Network) -> None:
        """Makes every address of `network` one of this namespace's own: each can be bound and is answered for."""
        head = _ROUTE.pack(socket.AF_INET, network.prefixlen, 0, 0, _TABLE_LOCAL, _BY_BOOT, _SCOPE_HOST, _LOCAL, 0)
        destination = attribute(_RTA_DST, network.network_address.packed)
        self._netlink.request(Message(_NEW_ROUTE, head + destination + attribute(_RTA_OIF, _number(LOOPBACK)), _CREATE))


def _link(index: int = 0, *, up: bool = False) -> bytes:
    return _LINK.pack(socket.AF_UNSPEC, 0, index, _IFF_UP if up else 0, _IFF_UP if up else 0)


def _number(value: int) -> bytes:
    return struct.pack("=I", value)
