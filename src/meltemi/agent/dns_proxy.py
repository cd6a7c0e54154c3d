"""Answers the DNS of one pod: from what its proxy may know, and with what the pod's own resolvers say of all else.

Two sockets, UDP and TCP, listen on the pod's loopback address, and what the application asks is led to them (see the
capture rules). The pod's own resolvers are asked through marked sockets, which no rule captures. Envoy must ask elsewhere
(`ProxySpec.resolver`): a host that the mesh gave an address of its own would lead Envoy back to the mesh.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address

from meltemi.agent.discovery import Discovery
from meltemi.agent.dns_server import Dial, DnsServer, Upstream
from meltemi.agent.namespaces import socket_within
from meltemi.agent.spec import Naming, ProxySpec

SOCKETS = 2
"""UDP and TCP."""

_SO_MARK = 36


class DnsProxy:
    """Follows the names of one proxy for as long as it lives, and answers on the sockets that it is given."""

    def __init__(self, spec: ProxySpec, naming: Naming, discovery: Discovery) -> None:
        self._spec = spec
        self._discovery = discovery
        self._resolvers = tuple(map(IPv4Address, naming.resolvers))
        self._server: DnsServer | None = None
        self._following = asyncio.create_task(discovery.run(), name=f"names of {spec.id}")

    def __repr__(self) -> str:
        return f"<DnsProxy of {self._spec.id}: {self._discovery!r}>"

    @property
    def is_synced(self) -> bool:
        """Whether the control plane has told all names at least once."""
        return self._discovery.synced.is_set()

    async def listen(self, sockets: Sequence[socket.socket], namespace: int | None) -> None:
        """Answers on sockets, in place of those from before. Takes them over; the namespace stays the caller's."""
        await self.stop_listening()
        udp, tcp = sockets
        self._server = DnsServer(self._discovery.names, Upstream(self._resolvers, dialled(namespace, self._spec.mark)))
        await self._server.take_over(udp, tcp)

    async def stop_listening(self) -> None:
        """Answers no more; names are followed on."""
        server, self._server = self._server, None
        if server is not None:
            await server.aclose()

    async def aclose(self) -> None:
        """Stops everything."""
        self._following.cancel()
        await asyncio.gather(self._following, return_exceptions=True)
        await self.stop_listening()


def dialled(namespace: int | None, mark: int) -> Dial:
    """How the pod's resolvers are reached: from its network namespace (None: this process's), by sockets of that mark."""

    def dial(protocol: str, address: IPv4Address, port: int) -> socket.socket:
        kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
        made = (
            socket.socket(socket.AF_INET, kind) if namespace is None else socket_within(namespace, socket.AF_INET, kind)
        )
        try:
            made.setblocking(False)
            if mark:
                made.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark)
            with contextlib.suppress(BlockingIOError):
                made.connect((str(address), port))
        except BaseException:
            made.close()
            raise
        return made

    return dial
