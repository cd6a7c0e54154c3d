"""Listeners: where Envoy accepts connections, what it takes them for, and where they go.

Short: a row per listener. Wide: a row per filter chain, with what a connection must look like to be handled by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from meltemi.cli.configuration.rows import Json, Row, address, cluster, dig, few, shares
from meltemi.cli.meshapi import ResourceRow

HEADERS = ("Name", "Address", "Port", "Match", "Type", "To", "Source")
WIDE = frozenset({"Match"})


def rows(resources: Sequence[ResourceRow], wide: bool) -> list[Row]:
    """The rows of all listeners."""
    return [row for resource in resources for row in _listener(resource, wide)]


def _listener(resource: ResourceRow, wide: bool) -> Iterator[Row]:
    content = resource.content or {}
    host, port = address(content.get("address"))
    default = content.get("default_filter_chain")
    chains = list(content.get("filter_chains") or ())
    if wide:
        for chain in chains:
            kind, target = handling(chain, wide=True)
            yield Row((resource.name, host, port, match(chain), kind, target), resource.sources)
        if default:
            kind, target = handling(default, wide=True)
            wanted = "anything else" if chains else "anything"
            yield Row((resource.name, host, port, wanted, kind, target), resource.sources)
        return
    told = [handling(chain) for chain in (*chains, *((default,) if default else ()))]
    targets = few(target for _, target in told if target)
    if content.get("use_original_dst"):
        targets = f"the listener of the destination, else {targets}"
    yield Row(
        (resource.name, host, port, "", ", ".join(sorted({kind for kind, _ in told if kind})), targets),
        resource.sources,
    )


def handling(chain: Json, *, wide: bool = False) -> tuple[str, str]:
    """What a filter chain takes a connection for (HTTP, TCP), and where it sends it."""
    for each in chain.get("filters") or ():
        config = each.get("typed_config") or {}
        kind = str(config.get("@type", "")).rpartition(".")[2]
        if kind == "HttpConnectionManager":
            return "HTTP", _routes(config, wide=wide)
        if kind == "TcpProxy":
            return "TCP", _tcp(config, wide=wide)
    return "", ""


def _routes(manager: Json, *, wide: bool) -> str:
    if name := dig(manager, "rds", "route_config_name"):
        return f"routes {name}"
    hosts = dig(manager, "route_config", "virtual_hosts") or ()
    found = (dig(route, "route", "cluster") for host in hosts for route in host.get("routes") or ())
    return few((cluster(name, wide=wide) for name in found if name), wide=wide)


def _tcp(proxy: Json, *, wide: bool) -> str:
    if name := proxy.get("cluster"):
        return cluster(str(name), wide=wide)
    return shares(dig(proxy, "weighted_clusters", "clusters") or (), wide=wide)


def match(chain: Json) -> str:
    """What a connection must look like: `TLS; SNI reviews.example; port 9080`."""
    wanted = chain.get("filter_chain_match") or {}
    parts = []
    if transport := wanted.get("transport_protocol"):
        parts.append({"tls": "TLS", "raw_buffer": "plaintext"}.get(str(transport), str(transport)))
    if names := wanted.get("server_names"):
        parts.append(f"SNI {few(names)}")
    if protocols := wanted.get("application_protocols"):
        parts.append(f"ALPN {few(protocols, 3)}")
    if ranges := wanted.get("prefix_ranges"):
        parts.append("to " + few(f"{each.get('address_prefix')}/{each.get('prefix_len', 0)}" for each in ranges))
    if port := wanted.get("destination_port"):
        parts.append(f"port {port}")
    return "; ".join(parts) or "anything"
