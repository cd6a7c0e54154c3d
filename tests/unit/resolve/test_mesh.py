"""The settings of the mesh."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from meltemi.base.durations import Timeout
from meltemi.model.clients import Visibility
from meltemi.model.mesh import Mesh, TlsLimits

CONFIG = """
apiVersion: meltemi.dev/v1alpha1
kind: MeshConfig
metadata: {{name: {0}}}
spec: {1}
---
"""


def settings(mesh: Any) -> Mesh:
    return mesh.only("mesh")


def test_without_a_mesh_config_the_defaults_hold(resolved: Any) -> None:
    resolved.graph.commit([])
    assert resolved.graph.table("mesh").one(Mesh()) == Mesh()


def test_a_mesh_config_says_what_differs(resolved: Any) -> None:
    resolved.apply("""
    trustDomain: example.org
    rootNamespace: mesh-system
    enableAutoMtls: false
    outboundTrafficPolicy: {mode: REGISTRY_ONLY}
    connectTimeout: 3s
    protocolDetectionTimeout: 100ms
    tcpKeepalive: {time: 60s}
    accessLogFile: /dev/stdout
    accessLogEncoding: JSON
    meshMTLS: {minProtocolVersion: TLSV1_3}
    pathNormalization: {normalization: MERGE_SLASHES}
    proxyListenPort: 16001
    """)
    mesh = settings(resolved)
    assert (mesh.trust_domain, mesh.root_namespace, mesh.auto_mtls) == ("example.org", "mesh-system", False)
    assert mesh.outbound.refused
    assert mesh.connect_timeout == timedelta(seconds=3)
    assert mesh.protocol_detection_timeout == Timeout.of(timedelta(milliseconds=100))
    assert mesh.tcp_keepalive is not None
    assert mesh.tcp_keepalive.time == timedelta(seconds=60)
    assert (mesh.access_log_file, mesh.access_log_json) == ("/dev/stdout", True)
    assert (mesh.mutual_tls.min_version, mesh.path_normalization) == ("TLSV1_3", "MERGE_SLASHES")
    assert (mesh.outbound_listener_port, mesh.inbound_listener_port) == (16001, 15006)


def test_any_host_may_be_called_where_the_mesh_says_so(resolved: Any) -> None:
    resolved.apply("outboundTrafficPolicy: {mode: ALLOW_ANY}")
    assert not settings(resolved).outbound.refused


def test_visibility_by_default_may_be_each_resources_own_namespace(resolved: Any) -> None:
    resolved.apply('defaultVirtualServiceExportTo: ["."]')
    assert settings(resolved).default_virtual_service_visibility == Visibility(frozenset({"."}))


def test_the_oldest_mesh_config_holds_and_the_younger_is_told(resolved: Any) -> None:
    resolved.apply(CONFIG.format("first", "{trustDomain: one}") + CONFIG.format("second", "{trustDomain: two}"))
    assert settings(resolved).trust_domain == "one"
    assert resolved.problems()["MeshConfigConflict"].ref.name == "second"


def test_a_format_of_json_access_logs_that_is_no_json_is_told_and_not_used(resolved: Any) -> None:
    resolved.apply("""
    accessLogFile: /dev/stdout
    accessLogEncoding: JSON
    accessLogFormat: "%REQ(:PATH)%"
    """)
    assert settings(resolved).access_log_format == ""
    assert resolved.problems()["Invalid"].path == "spec.accessLogFormat"


def test_limits_of_tls_are_the_meshs_own_or_those_of_all_other_tls(resolved: Any) -> None:
    resolved.apply("""
apiVersion: meltemi.dev/v1alpha1
kind: MeshConfig
metadata: {name: mesh}
spec:
  meshMTLS: {minProtocolVersion: TLSV1_3, ecdhCurves: [P-256]}
  tlsDefaults: {minProtocolVersion: TLSV1_3, cipherSuites: [AES128-GCM-SHA256]}
""")
    mesh = resolved.only("mesh")
    assert mesh.mutual_tls == TlsLimits("TLSV1_3", (), ("P-256",))
    assert mesh.tls_defaults == TlsLimits("", ("AES128-GCM-SHA256",))  # Istio heeds no minimum there


def test_limits_of_the_mesh_hold_where_no_rule_has_its_own(resolved: Any) -> None:
    resolved.apply("""
apiVersion: meltemi.dev/v1alpha1
kind: MeshConfig
metadata: {name: mesh}
spec:
  defaultTrafficPolicy:
    connectionPool: {tcp: {maxConnections: 9}}
    outlierDetection: {consecutive5xxErrors: 2}
---
apiVersion: v1
kind: Service
metadata: {name: cart}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: pay}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: pay}
spec: {host: pay, trafficPolicy: {connectionPool: {tcp: {maxConnections: 3}}}}
""")
    limits = {}
    for host in ("cart", "pay"):
        policy = resolved.row("destinations", host).variants[-1].policy(80)
        limits[host] = (policy.pool.max_connections, policy.outlier.consecutive_5xx_errors)
    assert limits == {"cart": (9, 2), "pay": (3, 2)}
