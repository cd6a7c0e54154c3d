"""Virtual hosts and their routes, made of the model's. Sidecars, sniffed ports and gateways all build them here."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from meltemi.envoy import actions, cors, faults, headers, matches, metadata, names, sessions, unknown
from meltemi.model.clients import Clients, OutboundPolicy
from meltemi.model.mesh import Mesh
from meltemi.model.routes import (
    Forward,
    HttpMatch,
    Passthrough,
    Redirect,
    Respond,
    RetryPolicy,
    Route,
    Source,
)
from meltemi.protos import any_of
from meltemi.protos.envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption, Metadata
from meltemi.protos.envoy.config.route.v3.route_components_pb2 import (
    DirectResponseAction,
    VirtualHost,
)
from meltemi.protos.envoy.config.route.v3.route_components_pb2 import Route as RouteMessage
from meltemi.protos.envoy.config.route.v3.route_pb2 import RouteConfiguration

LARGEST_BODY = 1 << 20  # of a direct response, in bytes


def route(route: Route, mesh: Mesh, operation: str) -> RouteMessage:
    """One route. `operation` names its spans (`<host>:<port>/*`)."""
    message = RouteMessage(
        name=route.name,
        match=matches.request(route.match),
        stat_prefix=route.stat_prefix,
        request_headers_to_add=headers.additions(route.request_headers),
        request_headers_to_remove=route.request_headers.remove,
        response_headers_to_add=headers.additions(route.response_headers),
        response_headers_to_remove=route.response_headers.remove,
    )
    if operation:
        message.decorator.operation = operation
    match route.action:
        case Forward():
            default = mesh.default_retry or RetryPolicy()
            message.route.CopyFrom(actions.forward(route.action, route.match.path, route.request_headers, default))
            if (session := actions.session(route.action)) is not None:
                message.typed_per_filter_config[sessions.NAME].CopyFrom(any_of(sessions.per_route(session)))
        case Redirect():
            message.redirect.CopyFrom(actions.redirect(route.action, route.match.path))
        case Respond():
            message.direct_response.CopyFrom(actions.respond(route.action))
        case Passthrough():
            message.route.CopyFrom(actions.to_unknown(names.PASSTHROUGH))
    if route.fault is not None:
        message.typed_per_filter_config[faults.NAME].CopyFrom(any_of(faults.per_route(route.fault)))
    if route.cors is not None:
        message.typed_per_filter_config[cors.NAME].CopyFrom(any_of(cors.per_route(route.cors)))
    return message


def keep_address(message: VirtualHost) -> None:
    """Keep the endpoint that the client chose by its address, where the cluster's balancer heeds that."""
    chosen = HeaderValue(key=names.ORIGINAL_DESTINATION_HEADER, value="%DOWNSTREAM_LOCAL_ADDRESS%")
    message.request_headers_to_add.append(
        HeaderValueOption(header=chosen, append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD)
    )


def virtual_host(
    name: str,
    domains: Iterable[str],
    routes: Iterable[Route],
    mesh: Mesh,
    *,
    operation: str = "",
    about: Metadata | None = None,
) -> VirtualHost:
    """A virtual host. `about` tells metrics which service was meant, where no cluster does."""
    return VirtualHost(
        name=name,
        domains=domains,
        routes=[route(each, mesh, operation) for each in routes],
        include_request_attempt_count=True,
        metadata=about,
    )


def for_clients(routes: Iterable[Route], applies: Callable[[Clients], bool]) -> tuple[Route, ...]:
    """The routes that hold for clients of whom `applies` tells which predicates they fulfil.

    What stands behind a route that fits every request is never reached, and left out.
    """
    kept: list[Route] = []
    for each in routes:
        if applies(each.clients):
            kept.append(each)
            if each.match == HttpMatch():
                break
    return tuple(kept)


def sources(routes: Iterable[Route]) -> tuple[Source, ...]:
    """The users' objects that routes were made of."""
    return tuple(dict.fromkeys(each.source for each in routes if each.source is not None))


def catch_all(policy: OutboundPolicy) -> VirtualHost:
    """What becomes of hosts that nobody knows: let through, sent to a service, or answered with 502."""
    name = names.BLOCK_ALL if policy.refused else names.ALLOW_ANY
    only = RouteMessage(name=name, match=matches.request(HttpMatch()))
    about = metadata.of_route(unknown.cluster(policy), unknown.cluster(policy), metadata.UNKNOWN)
    if policy.refused:
        only.direct_response.CopyFrom(DirectResponseAction(status=502))
    else:
        only.route.CopyFrom(actions.to_unknown(unknown.cluster(policy)))
    if policy.proxy is not None:
        about = metadata.of_route(policy.proxy.host, policy.proxy.host, policy.proxy.namespace)
    return VirtualHost(
        name=name,
        domains=["*"],
        routes=[only],
        include_request_attempt_count=True,
        metadata=about,
    )


def configuration(name: str, hosts: Iterable[VirtualHost] = ()) -> RouteConfiguration:
    """A route configuration. Clusters it names need not exist: they may come later, and fail with 503 until then."""
    message = RouteConfiguration(name=name, virtual_hosts=hosts, ignore_port_in_host_matching=True)
    message.validate_clusters.value = False
    message.max_direct_response_body_size_bytes.value = LARGEST_BODY
    return message
