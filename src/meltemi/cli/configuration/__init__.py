"""What a proxy is configured with, as rows: one module per type of resource, and their list.

Each function takes resources as the control plane tells them (`meshapi.ResourceRow` with content) and gives rows of texts.
The last column is always the source. Content is Envoy's JSON with the field names of Envoy's documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from meltemi.cli.configuration import clusters, endpoints, listeners, routes, secrets
from meltemi.cli.configuration.rows import Row
from meltemi.cli.meshapi import ResourceRow


class Type(msgspec.Struct, frozen=True):
    """A type of resource: its headers, those that only `-o wide` shows, and the function that makes its rows."""

    name: str
    headers: tuple[str, ...]
    wide: frozenset[str]
    rows: Callable[[Sequence[ResourceRow], bool], list[Row]]


TYPES: tuple[Type, ...] = (
    Type("listeners", listeners.HEADERS, listeners.WIDE, listeners.rows),
    Type("routes", routes.HEADERS, routes.WIDE, routes.rows),
    Type("clusters", clusters.HEADERS, clusters.WIDE, clusters.rows),
    Type("endpoints", endpoints.HEADERS, endpoints.WIDE, endpoints.rows),
    Type("secrets", secrets.HEADERS, secrets.WIDE, secrets.rows),
)

BY_NAME = {each.name: each for each in TYPES}
