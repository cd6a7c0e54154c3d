"""Routes: for which host and which requests, where to.

Route configurations that ask for their virtual hosts one by one have a row of their own; so has each route of a virtual
host. Where it can be told, its source is the very rule it was made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from meltemi.cli.configuration.rows import Json, Row, cluster, dig, host_name, shares
from meltemi.cli.meshapi import ResourceRow, SourceRow

HEADERS = ("Routes", "Domains", "Match", "To", "Details", "Source")
WIDE = frozenset({"Details"})


def rows(resources: Sequence[ResourceRow], wide: bool) -> list[Row]:
    """The rows of all route configurations and virtual hosts."""
    found: list[Row] = []
    for resource in resources:
        content = resource.content or {}
        if resource.type == "VirtualHost":
            found += _virtual_host(resource.name.partition("/")[0], content, resource.sources, wide)
            continue
        hosts = content.get("virtual_hosts") or ()
        for host in hosts:
            found += _virtual_host(resource.name, host, resource.sources, wide)
        if not hosts:
            found.append(Row((resource.name, "", "", "", ""), resource.sources))
    return sorted(found, key=_by_configuration)


def _by_configuration(row: Row) -> tuple[bool, int, str]:
    """Ports in their numeric order, then the others by name; within one, the order in which they came."""
    name = row.cells[0]
    return (not name.isdigit(), int(name) if name.isdigit() else 0, name)


def _virtual_host(routes: str, host: Json, sources: tuple[SourceRow, ...], wide: bool) -> Iterator[Row]:
    domains = ", ".join(_telling(host.get("domains") or (), wide=wide))
    found = host.get("routes") or ()
    for route, parts in zip(found, shared_out(sources, len(found)), strict=True):
        cells = (routes, domains, match(route.get("match") or {}), target(route, wide=wide), details(route))
        yield Row(cells, parts)
    if not found:
        yield Row((routes, domains, "", "nothing", ""), sources)


def shared_out(sources: tuple[SourceRow, ...], count: int) -> list[tuple[SourceRow, ...]]:
    """The sources of each of `count` routes.

    A virtual host names each part of an object once, in the order of its routes: if there are as many parts as routes,
    each is its route's. Else (one rule became several routes, or none was written for some) all stand with the first.
    """
    parts = [source for source in sources if source.path]
    if len(parts) == count:
        return [(part,) for part in parts]
    return [sources, *[()] * (count - 1)] if count else []


def _telling(domains: Sequence[str], *, wide: bool) -> list[str]:
    """The domains; in short only the first, with the number of the others."""
    if wide or not domains:
        return list(domains)
    others = f" (+{len(domains) - 1})" if len(domains) > 1 else ""
    return [host_name(domains[0]) + others]


def match(wanted: Json) -> str:
    """What a request must look like: `/api/*`, `= /login`, `GET`, `end-user: jason`."""
    parts = [_path(wanted)]
    for header in wanted.get("headers") or ():
        parts.append(_named(str(header.get("name", "")), header, "string_match"))
    for parameter in wanted.get("query_parameters") or ():
        parts.append("?" + _named(str(parameter.get("name", "")), parameter, "string_match"))
    if "grpc" in wanted:
        parts.append("gRPC")
    return ", ".join(part for part in parts if part)


def _path(wanted: Json) -> str:
    if "path" in wanted:
        return f"= {wanted['path']}"
    if "path_separated_prefix" in wanted:
        return f"{wanted['path_separated_prefix']} and below"
    if regex := dig(wanted, "safe_regex", "regex"):
        return f"~ {regex}"
    if "connect_matcher" in wanted:
        return "CONNECT"
    prefix = str(wanted.get("prefix", "/"))
    return f"{prefix}*"


def _named(name: str, matcher: Json, field: str) -> str:
    inverted = "not " if matcher.get("invert_match") else ""
    how = matcher.get(field)
    if how is None:
        return f"{inverted}{name}"
    kind, value = _text(how)
    return f"{inverted}{name}: {kind}{value}"


def _text(how: Json) -> tuple[str, str]:
    for kind, sign in (("exact", ""), ("prefix", "^"), ("suffix", "$"), ("contains", "*")):
        if kind in how:
            return sign, str(how[kind])
    return "~ ", str(dig(how, "safe_regex", "regex") or "")


def target(route: Json, *, wide: bool = False) -> str:
    """Where requests go: a cluster, shares of several, a redirect, an answer."""
    if "redirect" in route:
        return _redirect(route["redirect"])
    if "direct_response" in route:
        return f"answer {route['direct_response'].get('status', '')}"
    action = route.get("route") or {}
    if name := action.get("cluster"):
        return cluster(str(name), wide=wide)
    if weighted := dig(action, "weighted_clusters", "clusters"):
        return shares(weighted, wide=wide)
    if header := action.get("cluster_header"):
        return f"the cluster in {header}"
    return "nothing"


def _redirect(redirect: Json) -> str:
    codes = {
        "MOVED_PERMANENTLY": 301,
        "FOUND": 302,
        "SEE_OTHER": 303,
        "TEMPORARY_REDIRECT": 307,
        "PERMANENT_REDIRECT": 308,
    }
    code = codes.get(str(redirect.get("response_code", "MOVED_PERMANENTLY")), 301)
    scheme = redirect.get("scheme_redirect") or ("https" if redirect.get("https_redirect") else "")
    host = str(redirect.get("host_redirect") or "")
    port = f":{redirect['port_redirect']}" if redirect.get("port_redirect") else ""
    path = redirect.get("path_redirect") or redirect.get("prefix_rewrite") or ""
    place = f"{scheme}://{host or '<host>'}{port}{path}" if scheme or host or port else str(path)
    return f"redirect {code} {place}".rstrip()


def details(route: Json) -> str:
    """What else happens on the way: time-outs, retries, rewriting, mirrors, faults."""
    action: dict[str, Any] = route.get("route") or {}
    parts = []
    if (timeout := action.get("timeout")) and timeout != "0s":
        parts.append(f"timeout {timeout}")
    if policy := action.get("retry_policy"):
        parts.append(f"{policy.get('num_retries', 1)} retries on {policy.get('retry_on', '')}")
    if rewrite := action.get("prefix_rewrite") or dig(action, "regex_rewrite", "substitution"):
        parts.append(f"path becomes {rewrite}")
    if host := action.get("host_rewrite_literal"):
        parts.append(f"host becomes {host}")
    for mirror in action.get("request_mirror_policies") or ():
        parts.append(f"mirrored to {cluster(str(mirror.get('cluster', '')))}")
    for name in route.get("typed_per_filter_config") or ():
        parts.append(name.rpartition(".")[2])
    return "; ".join(parts)
