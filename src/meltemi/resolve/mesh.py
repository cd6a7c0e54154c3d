"""The settings of the mesh, with every default in its place."""

from __future__ import annotations

import json
from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from meltemi.api.mesh import MeshConfig, MeshConfigSpec
from meltemi.api.mesh.config import MeshTlsConfig
from meltemi.api.networking.destination_rule import TrafficPolicy
from meltemi.base.durations import Timeout
from meltemi.base.ordering import seniority
from meltemi.base.problems import Problem
from meltemi.flow import View
from meltemi.model.clients import LET_THROUGH, REFUSED, Visibility
from meltemi.model.mesh import Mesh, TlsLimits
from meltemi.resolve import problems
from meltemi.resolve.actions import retry_policy
from meltemi.resolve.traffic_policies import Sections, duration, filled_in, keepalive

DEFAULTS = Mesh()


def mesh(*, configs: View[tuple[str, str], MeshConfig]) -> Iterator[Mesh | Problem]:
    """The settings of the oldest MeshConfig, or the defaults if there is none. Younger ones are told that they lose."""
    ranked = sorted(configs.all(), key=seniority)
    for younger in ranked[1:]:
        yield problems.of(
            younger,
            "",
            "MeshConfigConflict",
            f"it is not in effect: {ranked[0].ref}, which is older, has the settings of the mesh",
            "keep all settings in one MeshConfig",
        )
    if not ranked:
        yield DEFAULTS
        return
    if (policy := ranked[0].spec.outbound_traffic_policy) is not None and policy.mode == "ALLOW_ANY_DYNAMIC_DNS":
        yield problems.warning(
            ranked[0],
            "spec.outboundTrafficPolicy.mode",
            "NotSupported",
            "ALLOW_ANY_DYNAMIC_DNS is taken as ALLOW_ANY: unknown hosts are reached at the address that the client used",
            "declare a ServiceEntry with resolution DYNAMIC_DNS for hosts to be found by their name",
        )
    if fault := _log_format_fault(ranked[0].spec):
        yield problems.of(
            ranked[0],
            "spec.accessLogFormat",
            "Invalid",
            f"{fault}: access logs have the default format",
            'with accessLogEncoding JSON write an object of texts, such as {"path": "%REQ(:PATH)%"}',
        )
    yield settings(ranked[0].spec)


def _log_format_fault(spec: MeshConfigSpec) -> str:
    """What is wrong with the format of access logs, or nothing."""
    if spec.access_log_encoding != "JSON" or not spec.access_log_format:
        return ""
    try:
        fields = json.loads(spec.access_log_format)
    except ValueError as error:
        return f"it is not JSON ({error})"
    return "" if isinstance(fields, dict) else "it is not a JSON object"


def settings(spec: MeshConfigSpec) -> Mesh:
    """What a MeshConfig says, over the defaults."""
    chosen = {
        "trust_domain": spec.trust_domain or None,
        "trust_domain_aliases": spec.trust_domain_aliases or None,
        "root_namespace": spec.root_namespace or None,
        "auto_mtls": spec.enable_auto_mtls,
        "outbound": REFUSED
        if spec.outbound_traffic_policy is not None and spec.outbound_traffic_policy.mode == "REGISTRY_ONLY"
        else LET_THROUGH,
        "inbound_to_localhost": spec.inbound_traffic_policy is not None
        and spec.inbound_traffic_policy.mode == "LOCALHOST",
        "default_service_visibility": _visibility(spec.default_service_export_to),
        "default_virtual_service_visibility": _visibility(spec.default_virtual_service_export_to),
        "default_destination_rule_visibility": _visibility(spec.default_destination_rule_export_to),
        "connect_timeout": duration(spec.connect_timeout) or None,
        "protocol_detection_timeout": Timeout.of(timeout)
        if (timeout := duration(spec.protocol_detection_timeout))
        else None,
        "tcp_keepalive": keepalive(spec.tcp_keepalive),
        "upgrade_to_http2": spec.h2_upgrade_policy == "UPGRADE",
        "dns_refresh_rate": duration(spec.dns_refresh_rate) or None,
        "access_log_file": spec.access_log_file or None,
        "access_log_format": (not _log_format_fault(spec) and spec.access_log_format) or None,
        "access_log_json": spec.access_log_encoding == "JSON",
        "mutual_tls": _limits(spec.mesh_mtls),
        "tls_defaults": replace(_limits(spec.tls_defaults), min_version=""),
        "verify_servers": spec.verify_certificate_at_client,
        "listener_logs": not spec.disable_envoy_listener_log,
        "inbound_stat_name": spec.inbound_cluster_stat_name or None,
        "outbound_stat_name": spec.outbound_cluster_stat_name or None,
        "path_normalization": _normalization(spec),
        "outbound_listener_port": spec.proxy_listen_port or None,
        "inbound_listener_port": spec.proxy_inbound_listen_port or None,
        "proxy_http_port": spec.proxy_http_port or None,
    }
    said = {field: value for field, value in chosen.items() if value is not None}
    found = _with_default_policy(msgspec.structs.replace(DEFAULTS, **said), spec.default_traffic_policy)
    if spec.default_http_retry_policy is None:
        return found
    return msgspec.structs.replace(found, default_retry=retry_policy(spec.default_http_retry_policy, DEFAULTS))


def _with_default_policy(mesh: Mesh, policy: TrafficPolicy | None) -> Mesh:
    """The mesh with limits for connections to which no rule gives any: each of the two sections by itself."""
    if policy is None:
        return mesh
    sections = Sections(connection_pool=policy.connection_pool, outlier_detection=policy.outlier_detection)
    limits = filled_in(sections, mesh, external=False)
    return replace(mesh, default_pool=limits.pool if policy.connection_pool else None, default_outlier=limits.outlier)


def _visibility(export_to: tuple[str, ...]) -> Visibility | None:
    """A default for `exportTo`. A `.` in it is kept: it stands for the namespace of each resource that has no own."""
    if not export_to:
        return None
    return Visibility() if "*" in export_to else Visibility(frozenset(export_to) - {"~"})


def _limits(config: MeshTlsConfig | None) -> TlsLimits:
    if config is None:
        return TlsLimits()
    version = "" if config.min_protocol_version == "TLS_AUTO" else config.min_protocol_version
    return TlsLimits(version, config.cipher_suites, config.ecdh_curves)


def _normalization(spec: MeshConfigSpec) -> str | None:
    normalization = spec.path_normalization.normalization if spec.path_normalization else "DEFAULT"
    return None if normalization == "DEFAULT" else normalization
