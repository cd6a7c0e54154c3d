"""Addresses at which a workload's own proxy waits for it: the listeners that a Sidecar's `egress` binds."""

from __future__ import annotations

import msgspec

from meltemi.base.refs import Ref


class Reached(msgspec.Struct, frozen=True, order=True):
    """A port of a service that is reached through such a listener."""

    namespace: str
    host: str
    port: int


class BoundListener(msgspec.Struct, frozen=True):
    """One listener: at an address and port, or at `unix://` and a path with port 0.

    `captured`: connections come here by capture, for this address; else the proxy itself listens. `http`: requests are told
    apart by host; else the first service has all that nothing tells apart. `sole`: it is for one service and no other,
    whatever host a request names.
    """

    bind: str
    port: int
    http: bool
    captured: bool
    targets: tuple[Reached, ...]
    sole: bool = False


class Egress(msgspec.Struct, frozen=True):
    """All such listeners of one audience. `key` in its table: the audience's."""

    audience: str
    sidecar: Ref
    listeners: tuple[BoundListener, ...]
