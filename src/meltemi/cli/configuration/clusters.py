"""Clusters: the services that a proxy can send to, and how."""

from __future__ import annotations

from collections.abc import Sequence

from meltemi.cli.configuration.rows import Json, Row, dig, host_name
from meltemi.cli.meshapi import ResourceRow

HEADERS = ("Service", "Port", "Subset", "Direction", "Type", "Balancing", "TLS", "Name", "Source")
WIDE = frozenset({"Balancing", "TLS", "Name"})


def rows(resources: Sequence[ResourceRow], wide: bool) -> list[Row]:
    """A row per cluster."""
    return [Row(_cells(each.name, each.content or {}, wide), each.sources) for each in resources]


def _cells(name: str, content: Json, wide: bool) -> tuple[str, ...]:
    direction, port, subset, host = name.split("|", 3) if name.count("|") >= 3 else ("", "", "", name)
    if direction == "inbound" and not host:
        host = "this workload"
    kind = str(dig(content, "cluster_type", "name") or content.get("type") or "STATIC")
    balancing = _balancing(content)
    return (
        host_name(host, wide=wide),
        port,
        subset,
        direction,
        kind.rpartition(".")[2].upper(),
        balancing,
        tls(content),
        name,
    )


def _balancing(content: Json) -> str:
    policies = dig(content, "load_balancing_policy", "policies") or ()
    for each in policies:
        kind = str(dig(each, "typed_extension_config", "typed_config", "@type") or "")
        return kind.rpartition(".")[2]
    return str(content.get("lb_policy", "ROUND_ROBIN"))


def tls(content: Json) -> str:
    """How connections are made: `mTLS where meshed`, `TLS`, or nothing."""
    if content.get("transport_socket_matches"):
        return "mTLS where meshed"
    socket = content.get("transport_socket") or {}
    if "UpstreamTlsContext" not in str(dig(socket, "typed_config", "@type") or ""):
        return ""
    certificates = dig(socket, "typed_config", "common_tls_context", "tls_certificate_sds_secret_configs")
    return "mTLS" if certificates else "TLS"
