"""From what users write to what it means: attachment, visibility, precedence, merging; one module for one meaning.

Everything here is a pure function of one row and of views of tables, made for `meltemi.flow`. Problems of users' objects
are yielded beside the rows.
"""

from meltemi.resolve import (
    credentials,
    destinations,
    endpoints,
    gateways,
    inbound,
    indexes,
    mesh,
    references,
    routes,
    services,
    views,
    workloads,
)

__all__ = [
    "credentials",
    "destinations",
    "endpoints",
    "gateways",
    "inbound",
    "indexes",
    "mesh",
    "references",
    "routes",
    "services",
    "views",
    "workloads",
]
