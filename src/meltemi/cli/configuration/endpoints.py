"""Endpoints: the addresses behind each cluster, and whose they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from meltemi.cli.configuration.rows import Json, Row, address, cluster, dig
from meltemi.cli.meshapi import ResourceRow

HEADERS = ("Endpoint", "Cluster", "Workload", "Health", "mTLS", "Weight", "Locality", "Source")
WIDE = frozenset({"Weight", "Locality"})


def rows(resources: Sequence[ResourceRow], wide: bool) -> list[Row]:
    """A row per endpoint; a cluster without one has a row that says so."""
    found: list[Row] = []
    for resource in resources:
        of_cluster = list(_endpoints(resource, wide))
        nothing = ("none", cluster(resource.name, wide=wide), "", "", "", "", "")
        found += of_cluster or [Row(nothing, resource.sources)]
    return found


def _endpoints(resource: ResourceRow, wide: bool) -> Iterator[Row]:
    for group in (resource.content or {}).get("endpoints") or ():
        locality = "/".join(part for name in ("region", "zone", "sub_zone") if (part := dig(group, "locality", name)))
        for each in group.get("lb_endpoints") or ():
            yield Row(_cells(cluster(resource.name, wide=wide), each, locality), resource.sources)


def _cells(name: str, each: Json, locality: str) -> tuple[str, ...]:
    host, port = address(dig(each, "endpoint", "address"))
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}" if port else host
    metadata = dig(each, "metadata", "filter_metadata") or {}
    workload = dig(metadata, "mesh", "workload") or ""
    namespace = dig(metadata, "mesh", "namespace") or ""
    known = workload and workload != "unknown"
    meshed = "yes" if dig(metadata, "envoy.transport_socket_match", "tlsMode") == "istio" else "no"
    health = str(each.get("health_status") or "HEALTHY")
    weight = str(each.get("load_balancing_weight") or "")
    return (
        place,
        name,
        f"{namespace}/{workload}" if known else "",
        "HEALTHY" if health == "UNKNOWN" else health,
        meshed,
        weight,
        locality,
    )
