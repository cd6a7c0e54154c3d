"""What a proxy on one machine is started with: the settings that hold for its pod, as far as they mean something here.

Threads, draining, the environment, statistics, runtime values and names are granted. What the mesh itself decides on one
machine (where its parts are, which Envoy runs, who waits for whom) is not asked for here; `api.support` says why.
The whole of the settings goes into the proxy's node metadata, where Istio has it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from meltemi.api.mesh.proxy import ProxyConfig as Settings
from meltemi.api.networking import ProxyConfig
from meltemi.base.durations import parse_duration
from meltemi.inject.proxy_config import effective

ROOT_NAMESPACE = "istio-system"
DRAIN_SECONDS = 45
FLUSH_SECONDS = 1.0
_LIFETIME = "SECRET_TTL"
_CAPTURES_DNS = "ISTIO_META_DNS_CAPTURE"
_YES = ("1", "t", "true")


class ProxyWishes(msgspec.Struct, frozen=True, kw_only=True):
    """`certificate_ttl` in seconds, 0 for the authority's default; a `concurrency` of 0 stands for all cores, as Istio
    has it; `flush_size` in KiB, 0 for Envoy's own; `captures_dns`: the agent answers the pod's DNS; `config` is all of
    the settings."""

    concurrency: int | None = None
    certificate_ttl: int = 0
    drain_seconds: int = DRAIN_SECONDS
    flush_seconds: float = FLUSH_SECONDS
    flush_size: int = 0
    environment: Mapping[str, str] = {}
    mesh_id: str = ""
    merges_metrics: bool = True
    captures_dns: bool = False
    config: Mapping[str, Any] = {}


def wishes(
    annotations: Mapping[str, str],
    *,
    default: Settings | None = None,
    configs: Iterable[ProxyConfig] = (),
    namespace: str = "",
    labels: Mapping[str, str] | None = None,
    root_namespace: str = ROOT_NAMESPACE,
) -> ProxyWishes:
    """What holds for a pod's proxy. Raises ValueError, with a message fit for users, if that cannot be understood."""
    found = effective(default, configs, namespace, labels or {}, annotations, root_namespace)
    lifetime = found.proxy_metadata.get(_LIFETIME) or "0"
    return ProxyWishes(
        concurrency=found.concurrency,
        certificate_ttl=max(0, int(_seconds(lifetime))),
        drain_seconds=max(1, round(_seconds(found.drain_duration))) if found.drain_duration else DRAIN_SECONDS,
        flush_seconds=_seconds(found.file_flush_interval) if found.file_flush_interval else FLUSH_SECONDS,
        flush_size=found.file_flush_min_size_kb or 0,
        environment=found.proxy_metadata,
        mesh_id=found.mesh_id,
        captures_dns=found.proxy_metadata.get(_CAPTURES_DNS, "").lower() in _YES,
        config=msgspec.to_builtins(found),
    )


def _seconds(text: str) -> float:
    return parse_duration(text).total_seconds()
