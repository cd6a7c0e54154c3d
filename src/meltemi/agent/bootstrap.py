"""The Envoy bootstrap of a proxy: what Envoy must know before the control plane has told it anything.

Everything else comes over delta ADS, from the cluster `xds-grpc`, over mutual TLS with the certificate that the agent
serves on a unix socket (`sds-grpc`). The names follow Istio's, because dashboards and tools look for them.

Source: `envoy.config.bootstrap.v3.Bootstrap`; Istio's `envoy_bootstrap.json`. Invariant: pure; equal specs give equal
bootstraps, and no secret is in them.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from typing import Any

from meltemi.agent import statistics
from meltemi.agent.spec import ProxySpec

Json = dict[str, Any]

XDS_CLUSTER = "xds-grpc"
SDS_CLUSTER = "sds-grpc"
ADMIN_CLUSTER = "prometheus_stats"
IDENTITY_SECRET = "default"
ROOTS_SECRET = "ROOTCA"

_METADATA = "ISTIO_META_"  # variables that begin so are told to the control plane, without the beginning
_SOL_SOCKET = 1
_SO_MARK = 36
_TYPES = "type.googleapis.com"
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def bootstrap(spec: ProxySpec) -> Json:
    """The bootstrap of a proxy, in protobuf's JSON mapping."""
    return {
        "node": node(spec),
        "admin": {"address": _socket("127.0.0.1", spec.ports.admin), "ignore_global_conn_limit": True},
        "dynamic_resources": _dynamic_resources(),
        "static_resources": {
            "clusters": [_xds_cluster(spec), _sds_cluster(spec), _admin_cluster(spec)],
            "listeners": [
                _admin_listener("health", spec.ports.health, "/healthz/ready", "/ready"),
                _admin_listener("prometheus", spec.ports.prometheus, "/stats/prometheus", "/stats/prometheus"),
            ],
        },
        "cluster_manager": _cluster_manager(spec),
        "layered_runtime": _runtime(spec),
        "overload_manager": _overload_manager(spec),
        **_resolver(spec),
        **statistics.settings(spec.annotations, spec.proxy_config),
    }


def _resolver(spec: ProxySpec) -> Json:
    """The DNS server that Envoy asks, if it is not those of the pod."""
    if spec.resolver is None:
        return {}
    config = {
        "@type": f"{_TYPES}/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
        "resolvers": [_socket(spec.resolver.host, spec.resolver.port)],
    }
    return {"typed_dns_resolver_config": {"name": "envoy.network.dns_resolver.cares", "typed_config": config}}


def encode(spec: ProxySpec) -> bytes:
    """The bootstrap as a JSON file."""
    return json.dumps(bootstrap(spec), indent=1, sort_keys=True).encode() + b"\n"


def node(spec: ProxySpec) -> Json:
    """Who the proxy is: Istio's node id and metadata names. The control plane checks it against the certificate."""
    metadata: Json = {
        "NAME": spec.pod,
        "NAMESPACE": spec.namespace,
        "SERVICE_ACCOUNT": spec.service_account,
        "WORKLOAD_NAME": spec.workload_name,
        "CLUSTER_ID": spec.cluster_id,
        "INSTANCE_IPS": spec.ip,
        "LABELS": dict(sorted(spec.labels.items())),
        "ANNOTATIONS": dict(sorted(spec.annotations.items())),
        "PROXY_CONFIG": dict(sorted(spec.proxy_config.items())),
        "OWNER": spec.owner,
        "MESH_ID": spec.mesh_id or spec.trust_domain,
        "NETWORK": spec.network,
        "NODE_NAME": spec.node,
        "ISTIO_REVISION": spec.revision,
        "ENVOY_STATUS_PORT": spec.ports.health,
        "ENVOY_PROMETHEUS_PORT": spec.ports.prometheus,
        "INTERCEPTION_MODE": "REDIRECT" if spec.kind == "sidecar" else "NONE",
    }
    for name, value in sorted(spec.environment.items()):
        if name.startswith(_METADATA):
            metadata.setdefault(name.removeprefix(_METADATA), value)
    locality = {"region": spec.region, "zone": spec.zone, "sub_zone": spec.sub_zone}
    return {
        "id": spec.node_id,
        "cluster": spec.service_cluster,
        "metadata": {name: value for name, value in metadata.items() if value not in ("", {})},
        "locality": {name: value for name, value in locality.items() if value},
    }


def _dynamic_resources() -> Json:
    ads = {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}
    return {
        "lds_config": ads,
        "cds_config": ads,
        "ads_config": {
            "api_type": "DELTA_GRPC",
            "transport_api_version": "V3",
            "set_node_on_first_message_only": True,
            "grpc_services": [_grpc_service(XDS_CLUSTER)],
        },
    }


def _grpc_service(cluster: str) -> Json:
    """A gRPC service whose streams are opened again soon after they break."""
    back_off = {"base_interval": "0.1s", "max_interval": "3s"}
    return {"envoy_grpc": {"cluster_name": cluster, "retry_policy": {"retry_back_off": back_off}}}


def secret_from_agent(name: str) -> Json:
    """An SdsSecretConfig: a secret that the agent serves. Envoy waits for it for as long as it takes."""
    return {
        "name": name,
        "sds_config": {
            "api_config_source": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [_grpc_service(SDS_CLUSTER)],
            },
            "initial_fetch_timeout": "0s",
            "resource_api_version": "V3",
        },
    }


def _xds_cluster(spec: ProxySpec) -> Json:
    address = spec.control_plane
    return {
        "name": XDS_CLUSTER,
        "type": "STATIC" if _is_ip(address.host) else "STRICT_DNS",
        "dns_lookup_family": "V4_PREFERRED",
        "connect_timeout": "2s",
        "load_assignment": _one_endpoint(XDS_CLUSTER, _socket(address.host, address.port)),
        "transport_socket": _mutual_tls(spec),
        "upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 30}},
        "typed_extension_protocol_options": _http2({"interval": "10s", "timeout": "5s"}),
        "circuit_breakers": _wide_open(),
    }


def _mutual_tls(spec: ProxySpec) -> Json:
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_TYPES}/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": f"{spec.control_plane_identity.service_account}.{spec.root_namespace}.svc",
            "common_tls_context": {
                "alpn_protocols": ["h2"],
                "tls_params": {
                    "tls_minimum_protocol_version": "TLSv1_3",
                    "tls_maximum_protocol_version": "TLSv1_3",
                },
                "tls_certificate_sds_secret_configs": [secret_from_agent(IDENTITY_SECRET)],
                "combined_validation_context": {
                    "default_validation_context": {
                        "match_typed_subject_alt_names": [
                            {"san_type": "URI", "matcher": {"exact": str(spec.control_plane_identity)}}
                        ]
                    },
                    "validation_context_sds_secret_config": secret_from_agent(ROOTS_SECRET),
                },
            },
        },
    }


def _sds_cluster(spec: ProxySpec) -> Json:
    return {
        "name": SDS_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": _one_endpoint(SDS_CLUSTER, {"pipe": {"path": spec.sds_socket}}),
        "typed_extension_protocol_options": _http2({}),
        "circuit_breakers": _wide_open(),
    }


def _admin_cluster(spec: ProxySpec) -> Json:
    return {
        "name": ADMIN_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": _one_endpoint(ADMIN_CLUSTER, _socket("127.0.0.1", spec.ports.admin)),
    }


def _http2(keepalive: Json) -> Json:
    """HTTP/2; with a keepalive, a peer that no longer answers pings is given up, and the stream opened anew."""
    options: Json = {"connection_keepalive": keepalive} if keepalive else {}
    return {
        _HTTP_OPTIONS: {
            "@type": f"{_TYPES}/{_HTTP_OPTIONS}",
            "explicit_http_config": {"http2_protocol_options": options},
        }
    }


def _wide_open() -> Json:
    """Circuit breakers that never trip: the mesh's own connections are not the users' load."""
    most = {"max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000}
    return {"thresholds": [{"priority": priority, **most} for priority in ("DEFAULT", "HIGH")]}


def _admin_listener(name: str, port: int, path: str, admin_path: str) -> Json:
    """A port of the pod on which one page of the admin interface can be read, and nothing else of it."""
    route = {"match": {"path": path}, "route": {"cluster": ADMIN_CLUSTER, "prefix_rewrite": admin_path}}
    connection_manager = {
        "@type": f"{_TYPES}/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "generate_request_id": False,
        "route_config": {"virtual_hosts": [{"name": name, "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPES}/envoy.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    return {
        "name": name,
        "address": _socket("0.0.0.0", port),
        "ignore_global_conn_limit": True,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": connection_manager}]}
        ],
    }


def _cluster_manager(spec: ProxySpec) -> Json:
    """Marks every connection that Envoy itself opens, so that the pod's capture rules let it pass."""
    if not spec.mark:
        return {}
    mark = {
        "description": "exempt from capture",
        "level": _SOL_SOCKET,
        "name": _SO_MARK,
        "int_value": spec.mark,
        "state": "STATE_PREBIND",
    }
    return {"upstream_bind_config": {"socket_options": [mark]}}


def _runtime(spec: ProxySpec) -> Json:
    layer: Json = {
        # Users' regular expressions may be longer than the 100 instructions that Envoy allows by default.
        "re2.max_program_size.error_level": 32768,
        # Clusters offer HTTP/2 to endpoints of the mesh and speak plaintext, which has no ALPN, to all others.
        "config.do_not_validate_alpn_support": 100,
    }
    asked = spec.proxy_config.get("runtimeValues")
    if isinstance(asked, Mapping):
        layer |= dict(sorted(asked.items()))
    return {"layers": [{"name": "mesh", "static_layer": layer}, {"name": "admin", "admin_layer": {}}]}


def _overload_manager(spec: ProxySpec) -> Json:
    kind = "envoy.resource_monitors.global_downstream_max_connections"
    message = "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
    limit = {"@type": f"{_TYPES}/{message}", "max_active_downstream_connections": spec.max_downstream_connections}
    return {"resource_monitors": [{"name": kind, "typed_config": limit}]}


def _one_endpoint(cluster: str, address: Json) -> Json:
    endpoint = {"endpoint": {"address": address}}
    return {"cluster_name": cluster, "endpoints": [{"lb_endpoints": [endpoint]}]}


def _socket(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
