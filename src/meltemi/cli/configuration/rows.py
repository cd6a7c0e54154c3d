"""What all types of resources have in common when they are told in rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from meltemi.cli.meshapi import SourceRow

Json = dict[str, Any]


class Row(msgspec.Struct, frozen=True):
    """One line: the cells but for the last column, and the objects it came from."""

    cells: tuple[str, ...]
    sources: tuple[SourceRow, ...] = ()


def dig(value: Any, *path: str) -> Any:
    """The value at a path of field names, or None."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def few(items: Iterable[str], most: int = 2, *, wide: bool = False) -> str:
    """Some items, and how many more there are: `a, b (+3)`."""
    all_items = list(dict.fromkeys(items))
    if wide or len(all_items) <= most + 1:
        return ", ".join(all_items)
    return f"{', '.join(all_items[:most])} (+{len(all_items) - most})"


def address(message: Any) -> tuple[str, str]:
    """Host and port of an Envoy `Address`, or the path of a pipe."""
    socket = dig(message, "socket_address")
    if socket is not None:
        return str(socket.get("address", "")), str(socket.get("port_value", ""))
    if internal := dig(message, "envoy_internal_address", "server_listener_name"):
        return str(internal), ""
    return str(dig(message, "pipe", "path") or ""), ""


def cluster(name: str, *, wide: bool = False) -> str:
    """A cluster as people call it: `reviews.bookshop:9080 v1`, or its name if that tells nothing.

    Wide: with the whole host, `reviews.bookshop.svc.cluster.local:9080 v1`.
    """
    if name.count("|") < 3:
        return name
    direction, port, subset, host = name.split("|", 3)
    if direction == "inbound":
        return f"this workload:{port}"
    return f"{host_name(host, wide=wide)}:{port} {subset}".rstrip()


def host_name(host: str, *, wide: bool = False) -> str:
    """A host; of a cluster-local one, what tells it from others: `reviews.bookshop`."""
    name, _, domain = host.partition(".svc.")
    return host if wide or not domain else name


def shares(clusters: Iterable[Json], *, wide: bool = False) -> str:
    """Weighted clusters: `90% reviews.bookshop:9080 v1, 10% reviews.bookshop:9080 v3`."""
    weights = [(int(each.get("weight", 0)), str(each.get("name", ""))) for each in clusters]
    total = sum(weight for weight, _ in weights) or 1
    return ", ".join(f"{weight * 100 / total:g}% {cluster(name, wide=wide)}" for weight, name in weights)
