"""Patches of route configurations, of virtual hosts and of routes in them.

Virtual hosts of ports on which services share HTTP are resources of their own. Users know them as a part of the route
configuration all the same, so a patch finds them by its name and by theirs in it, and one that is added stands in the
route configuration itself.

Source: Istio `EnvoyFilter` with `applyTo` ROUTE_CONFIGURATION, VIRTUAL_HOST and HTTP_ROUTE. As there, a virtual host
that is added is not patched itself, and routes are merged and removed before others are put in.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from meltemi.envoy.patching.edits import ByKind, Used, edit, message_of
from meltemi.envoy.patching.merging import merge
from meltemi.envoy.resource import Resource, finish
from meltemi.model.patches import Kind, Patch
from meltemi.protos.envoy.config.route.v3.route_components_pb2 import Route, VirtualHost
from meltemi.protos.envoy.config.route.v3.route_pb2 import RouteConfiguration

_ACTIONS = {"ROUTE": "route", "REDIRECT": "redirect", "DIRECT_RESPONSE": "direct_response"}


class Server(msgspec.Struct, frozen=True):
    """What the name of a route configuration says of whom it is for; `gateway` is `namespace/name`."""

    name: str
    port: int = 0
    port_name: str = ""
    gateway: str = ""

    @classmethod
    def of(cls, name: str) -> Server:
        """`80`, `inbound|80||`, `http.80`, `https.443.<port name>.<gateway>.<namespace>`; else only the name is known."""
        inbound, bars = name.partition("|")[::2]
        if inbound == "inbound":
            return cls(name, _number(bars.partition("|")[0]))
        parts = name.split(".")
        if parts[0] == "https" and len(parts) == 5:
            return cls(name, _number(parts[1]), parts[2], f"{parts[4]}/{parts[3]}")
        if parts[0] == "http" and len(parts) > 1:
            return cls(name, _number(parts[1]))
        return cls(name, _number(name))

    def is_meant(self, patch: Patch) -> bool:
        """Whether a patch is for this route configuration."""
        target = patch.routes
        return (
            target.name in ("", self.name)
            and target.port in (0, self.port)
            and target.port_name in ("", self.port_name)
            and target.gateway in ("", self.gateway)
        )


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def patched(resource: Resource, patches: ByKind, used: Used) -> Resource:
    """A route configuration after all patches that are for it, which become `used`."""
    message = RouteConfiguration.FromString(resource.body)
    server = Server.of(resource.name)
    for patch in patches.get(Kind.ROUTE_CONFIGURATION, ()):
        value = message_of(patch)
        if patch.operation == "MERGE" and value is not None and server.is_meant(patch):
            merge(message, value)
            message.name = resource.name  # The listener asks for it by this name.
            used[patch.source] = None
    hosts = [_patched(host, host.name, server, patches, used) for host in message.virtual_hosts]
    del message.virtual_hosts[:]
    message.virtual_hosts.extend(host for host in hosts if host is not None)
    for patch in patches.get(Kind.VIRTUAL_HOST, ()):
        if patch.operation == "ADD" and server.is_meant(patch) and edit(message.virtual_hosts, patch, None):
            used[patch.source] = None
    return finish(resource.name, message, [*resource.sources, *used]) if used else resource


def patched_host(resource: Resource, patches: ByKind, used: Used) -> Resource | None:
    """A virtual host that is a resource of its own, after all patches that are for it; None if one takes it away."""
    routes, _, name = resource.name.partition("/")
    message = _patched(VirtualHost.FromString(resource.body), name, Server.of(routes), patches, used)
    if message is None:
        return None
    message.name = resource.name  # Envoy removes it by this name.
    return finish(resource.name, message, [*resource.sources, *used]) if used else resource


def _patched(host: VirtualHost, name: str, server: Server, patches: ByKind, used: Used) -> VirtualHost | None:
    """A virtual host that users know by `name`."""
    message = VirtualHost()
    message.CopyFrom(host)
    for patch in patches.get(Kind.VIRTUAL_HOST, ()):
        if not server.is_meant(patch) or not _is_host(message, name, patch):
            continue
        if patch.operation == "REMOVE":
            used[patch.source] = None
            return None
        value = message_of(patch)
        if value is None or patch.operation not in ("MERGE", "REPLACE"):
            continue
        if patch.operation == "REPLACE":
            message.Clear()
        merge(message, value)
        used[patch.source] = None
    found = [
        patch for patch in patches.get(Kind.HTTP_ROUTE, ()) if server.is_meant(patch) and _is_host(message, name, patch)
    ]
    if found:
        _patch_routes(message, found, used)
    return message


def _is_host(host: VirtualHost, name: str, patch: Patch) -> bool:
    target = patch.routes
    return target.host in ("", name) and (not target.domain or target.domain in host.domains)


def _patch_routes(host: VirtualHost, patches: list[Patch], used: Used) -> None:
    kept = [route for route in host.routes if _patch_route(route, patches, used)]
    copies = [Route.FromString(route.SerializeToString()) for route in kept]
    del host.routes[:]
    host.routes.extend(copies)
    for patch in patches:
        fits = _route(patch) if patch.routes.picks else None
        if patch.operation in ("MERGE", "REMOVE", "REPLACE"):
            continue
        if patch.operation == "INSERT_FIRST" and fits is not None and not any(map(fits, host.routes)):
            continue
        if edit(host.routes, patch, fits):
            used[patch.source] = None


def _patch_route(route: Route, patches: list[Patch], used: Used) -> bool:
    """Patch one route; False if it is taken away."""
    for patch in patches:
        if patch.operation not in ("MERGE", "REMOVE") or not _route(patch)(route):
            continue
        value = message_of(patch)
        if patch.operation == "REMOVE":
            used[patch.source] = None
            return False
        if value is not None:
            merge(route, value)
            used[patch.source] = None
    return True


def _route(patch: Patch) -> Callable[[Route], bool]:
    """What tells whether a route is one that a patch asks for."""
    target = patch.routes
    action = _ACTIONS.get(target.action, "")
    return lambda route: target.route in ("", route.name) and action in ("", route.WhichOneof("action"))
