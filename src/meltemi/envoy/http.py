"""The HTTP connection manager, and the order of the filters in it: one place for sidecars and gateways alike.

A filter that only some routes need (faults, CORS, sessions) stands in every chain but is disabled there, and a route's own
configuration enables it: virtual hosts come and go by themselves, and no listener changes for them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping

from google.protobuf.message import Message

from meltemi.envoy import access_logs, cors, faults, metrics, sessions
from meltemi.envoy.values import ads, boolean
from meltemi.model.mesh import Mesh
from meltemi.protos import any_of
from meltemi.protos.envoy.config.accesslog.v3.accesslog_pb2 import AccessLog
from meltemi.protos.envoy.config.listener.v3.listener_components_pb2 import Filter
from meltemi.protos.envoy.config.route.v3.route_pb2 import RouteConfiguration
from meltemi.protos.envoy.extensions.filters.http.cors.v3.cors_pb2 import Cors
from meltemi.protos.envoy.extensions.filters.http.fault.v3.fault_pb2 import HTTPFault
from meltemi.protos.envoy.extensions.filters.http.grpc_web.v3.grpc_web_pb2 import GrpcWeb
from meltemi.protos.envoy.extensions.filters.http.router.v3.router_pb2 import Router
from meltemi.protos.envoy.extensions.filters.http.stateful_session.v3.stateful_session_pb2 import StatefulSession
from meltemi.protos.envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    HttpFilter,
    Rds,
)
from meltemi.protos.google.protobuf.duration_pb2 import Duration

NAME = "envoy.filters.network.http_connection_manager"
ROUTER = "envoy.filters.http.router"
GRPC_WEB = "envoy.filters.http.grpc_web"

# The order in which filters see a request; answers pass them the other way. A filter relies on those above it: who the
# peer is and what its token says must be known before anybody decides, and nobody pays for a request that is refused.
ORDER = (
    "envoy.filters.http.header_to_metadata",  # takes what the peer says of itself off the request, for metrics
    "envoy.filters.http.header_mutation",  # removes it unread where nobody has shown to be of the mesh
    "envoy.filters.http.ext_authz",  # CUSTOM authorization, before anything else may refuse
    "envoy.filters.http.jwt_authn",  # tokens, whose claims authorization looks at
    "envoy.filters.http.rbac",  # authorization: AUDIT, DENY, ALLOW
    "envoy.filters.http.local_ratelimit",
    "envoy.filters.http.ratelimit",
    GRPC_WEB,  # makes gRPC of gRPC-Web, for all below
    faults.NAME,  # after authorization: a fault is no way around it
    cors.NAME,
    sessions.NAME,  # last, since it only says where the router is to go
    ROUTER,  # ends the chain
)


def arranged(filters: Mapping[str, HttpFilter | Iterable[HttpFilter]]) -> list[HttpFilter]:
    """Filters in the order that holds for all, by name of kind; several of a kind keep theirs. KeyError for others."""
    unknown = filters.keys() - set(ORDER)
    if unknown:
        raise KeyError(f"no place in the order of filters for {', '.join(sorted(unknown))}")
    found: list[HttpFilter] = []
    for name in ORDER:
        each = filters.get(name, ())
        found.extend([each] if isinstance(each, HttpFilter) else each)
    return found


def http_filter(name: str, config: Message, *, disabled: bool = False) -> HttpFilter:
    """A filter; `disabled` until a route enables it."""
    return HttpFilter(name=name, typed_config=any_of(config), disabled=disabled)


def common_filters(*, grpc_web: bool = False) -> dict[str, HttpFilter | Iterable[HttpFilter]]:
    """The filters of every chain, to which others may be added before they are arranged."""
    found: dict[str, HttpFilter | Iterable[HttpFilter]] = {
        faults.NAME: http_filter(faults.NAME, HTTPFault(), disabled=True),
        cors.NAME: http_filter(cors.NAME, Cors(), disabled=True),
        ROUTER: http_filter(ROUTER, Router()),
    }
    if grpc_web:
        found[GRPC_WEB] = http_filter(GRPC_WEB, GrpcWeb())
    return found


def outgoing_filters(*, grpc_web: bool = False) -> dict[str, HttpFilter | Iterable[HttpFilter]]:
    """The filters of every chain by which requests leave a client or come in through a gateway."""
    found = common_filters(grpc_web=grpc_web)
    found[sessions.NAME] = http_filter(sessions.NAME, StatefulSession(), disabled=True)
    return found


def rds(name: str) -> Rds:
    """The route configuration of that name, from the control plane."""
    return Rds(route_config_name=name, config_source=ads())


def connection_manager(
    stat_prefix: str,
    routes: Rds | RouteConfiguration,
    filters: Mapping[str, HttpFilter | Iterable[HttpFilter]],
    loggers: Iterable[AccessLog],
    mesh: Mesh,
) -> HttpConnectionManager:
    """A connection manager as all proxies of the mesh have it; sides add what is theirs before it is packed."""
    message = HttpConnectionManager(
        stat_prefix=stat_prefix,
        http_filters=arranged(filters),
        access_log=loggers,
        use_remote_address=boolean(False),
        stream_idle_timeout=Duration(),
        upgrade_configs=[HttpConnectionManager.UpgradeConfig(upgrade_type="websocket")],
    )
    message.http2_protocol_options.allow_connect = True
    if isinstance(routes, Rds):
        message.rds.CopyFrom(routes)
    else:
        message.route_config.CopyFrom(routes)
    _normalize(message, mesh.path_normalization)
    return message


def _normalize(message: HttpConnectionManager, how: str) -> None:
    """How paths are made plain before they are matched (MeshConfig `pathNormalization`)."""
    message.normalize_path.value = how != "NONE"
    if how in ("MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"):
        message.merge_slashes = True
    if how == "DECODE_AND_MERGE_SLASHES":
        message.path_with_escaped_slashes_action = HttpConnectionManager.UNESCAPE_AND_FORWARD


def as_filter(manager: HttpConnectionManager) -> Filter:
    """The network filter of a finished connection manager."""
    return Filter(name=NAME, typed_config=any_of(manager))


@functools.lru_cache(maxsize=4)
def outbound_loggers(mesh: Mesh) -> tuple[AccessLog, ...]:
    """How a client's sidecar (or a gateway) tells of its requests. Made once: do not change them."""
    return (
        *metrics.http_loggers(
            metrics.Reporter.SOURCE,
            metrics.local("%UPSTREAM_LOCAL_URI_SAN%"),
            metrics.upstream(),
            metrics.called_service(http=True),
        ),
        *access_logs.loggers(mesh),
    )


def outbound(name: str, routes: Rds | RouteConfiguration, mesh: Mesh, *, grpc_web: bool = False) -> Filter:
    """The connection manager of a client's sidecar, for the listener of that name."""
    return as_filter(
        connection_manager(
            f"outbound_{name};", routes, outgoing_filters(grpc_web=grpc_web), outbound_loggers(mesh), mesh
        )
    )
