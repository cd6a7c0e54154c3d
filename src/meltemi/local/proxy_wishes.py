"""What a pod wishes of its own proxy: the annotation `proxy.istio.io/config`, a ProxyConfig in YAML.

On one machine two wishes are granted: `concurrency`, and, as SECRET_TTL of `proxyMetadata`, the lifetime of certificates.
The whole of it goes into the proxy's node metadata, where Istio has it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import yaml

from meltemi.base.durations import parse_duration

ANNOTATION = "proxy.istio.io/config"
_LIFETIME = "SECRET_TTL"


class ProxyWishes(msgspec.Struct, frozen=True, kw_only=True):
    """`certificate_ttl` in seconds, 0 for the authority's default; a `concurrency` of 0 stands for all cores, as Istio
    has it; `config` as it was written."""

    concurrency: int | None = None
    certificate_ttl: int = 0
    config: Mapping[str, Any] = {}


def wishes(annotations: Mapping[str, str]) -> ProxyWishes:
    """What a pod's annotations say. Raises ValueError, with a message fit for users, if that cannot be understood."""
    try:
        config = yaml.load(annotations.get(ANNOTATION, ""), yaml.CSafeLoader) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"the annotation {ANNOTATION} is not YAML: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"the annotation {ANNOTATION} is not a ProxyConfig, which has fields such as concurrency")
    concurrency, metadata = config.get("concurrency"), config.get("proxyMetadata") or {}
    if concurrency is not None and (not isinstance(concurrency, int) or concurrency < 0):
        raise ValueError(f"the annotation {ANNOTATION} has a concurrency of {concurrency!r}, which is not a number")
    lifetime = str(metadata.get(_LIFETIME) or "0") if isinstance(metadata, dict) else "0"
    return ProxyWishes(
        concurrency=concurrency,
        certificate_ttl=max(0, int(parse_duration(lifetime).total_seconds())),
        config=config,
    )
