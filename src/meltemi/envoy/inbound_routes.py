"""Routes of the server side: every request goes to the application, if authorization lets it.

They are resources of their own and carry the rules for requests, so that a change of policy, or of what is done with
requests on the way, reaches open connections too and leaves the listener alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from meltemi.envoy import authorization, names, routing
from meltemi.envoy.inbound_chains import Door
from meltemi.model.mesh import Mesh
from meltemi.model.proxies import Inbound
from meltemi.model.routes import Forward, Passthrough, Route
from meltemi.model.services import Protocol
from meltemi.protos.envoy.config.route.v3.route_components_pb2 import Route as RouteMessage
from meltemi.protos.envoy.config.route.v3.route_components_pb2 import RouteAction, VirtualHost
from meltemi.protos.envoy.config.route.v3.route_pb2 import RouteConfiguration
from meltemi.protos.google.protobuf.any_pb2 import Any
from meltemi.protos.google.protobuf.duration_pb2 import Duration

_RETRIES = 2


def configurations(doors: Iterable[Door], row: Inbound, mesh: Mesh) -> list[RouteConfiguration]:
    """The route configurations that the doors' chains name: one for each cluster, under its name."""
    rules = authorization.for_routes(row.authorization)
    found = {door.cluster: door for door in doors}
    return [_configuration(door, rules, row.routes, mesh) for door in found.values()]


def _configuration(door: Door, rules: Mapping[str, Any], extra: Iterable[Route], mesh: Mesh) -> RouteConfiguration:
    operation = f"{names.virtual_host(door.host, door.service_port)}/*" if door.host else ""
    own = _to_application(door, operation)
    before = [_extra(route, own.route, mesh, operation) for route in extra] if door.port else []
    host = VirtualHost(name=f"inbound|http|{door.service_port}", domains=["*"], routes=[*before, own])
    message = RouteConfiguration(name=door.cluster, virtual_hosts=[host], typed_per_filter_config=rules)
    message.validate_clusters.value = False
    return message


def _to_application(door: Door, operation: str) -> RouteMessage:
    """All requests to the application, for as long as they take.

    Retried is only what cannot have reached it: the application had just closed the connection. gRPC does so by itself.
    """
    message = RouteMessage(name="default", route=RouteAction(cluster=door.cluster, timeout=Duration()))
    message.match.prefix = "/"
    if operation:
        message.decorator.operation = operation
    if door.port and door.protocol not in (Protocol.GRPC, Protocol.GRPC_WEB):
        message.route.retry_policy.retry_on = "reset-before-request"
        message.route.retry_policy.num_retries.value = _RETRIES
    return message


def _extra(route: Route, own: RouteAction, mesh: Mesh, operation: str) -> RouteMessage:
    """A route before the last: it may change requests, answer them or spoil them, but leads to nothing else."""
    message = routing.route(route, mesh, operation)
    if isinstance(route.action, Forward | Passthrough):
        message.route.CopyFrom(own)
    return message
