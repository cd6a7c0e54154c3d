"""Which of its numbers Envoy keeps, and which parts of their names become Prometheus labels.

Envoy can count 36 KB worth of statistics for each cluster; by default a sidecar keeps what the mesh's dashboards read.
Clusters and listeners put a `;` behind their name in statistics (`alt_stat_name`, `stat_prefix`), because the names have
dots in them; names without one end at the first dot.

Source: `envoy.config.metrics.v3.StatsConfig`, Istio's `pkg/bootstrap/config.go` and its `sidecar.istio.io/stats...`
annotations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]

MESH_METRICS = "istio"
"""How the names of the mesh's standard metrics begin: the `stat_prefix` of `envoy.access_loggers.stats`."""

_PREFIXES = ("cluster_manager", "listener_manager", "server", "cluster.xds-grpc", "wasm", MESH_METRICS)
_SUFFIXES = ("rbac.allowed", "rbac.denied", "shadow_allowed", "shadow_denied")
_REGEXES: tuple[str, ...] = ()

_ANNOTATION = "sidecar.istio.io/statsInclusion"

_NAME = r"(.+?)(?:;\.|\.(?=[^;]*$))"
"""A name that ends with `;.` or, where no `;` follows, at the first dot."""

_ADDRESS = r"(?:[_.\d]*|[_\[\]aAbBcCdDeEfF\d]*)"

_TAGS = {
    "cluster_name": rf"^cluster\.({_NAME})",
    "tcp_prefix": rf"^tcp\.({_NAME})",
    "http_conn_manager_prefix": rf"^http\.({_NAME})",
    "http_conn_manager_listener_prefix": rf"^listener(?=\.).*?\.http\.({_NAME})",
    "listener_address": rf"^listener\.(({_ADDRESS})\.)",
    "response_code": r"_rq(_(\d{3}))$",
    "response_code_class": r"_rq(_(\dxx))$",
    "authz_enforce_result": r"rbac(\.(allowed|denied))$",
    "authz_dry_run_action": r"(\.istio_dry_run_(allow|deny)_)",
    "authz_dry_run_result": r"(\.shadow_(allowed|denied))$",
}

_SIZES = [2**power for power in (6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26)]


def settings(annotations: Mapping[str, str], config: Mapping[str, object] | None = None) -> Json:
    """The fields of a Bootstrap that are about statistics.

    A pod's annotations, and `proxyStatsMatcher` of the proxy's settings, can include more of them.
    """
    return {
        "stats_config": {
            "use_all_default_tags": False,
            "stats_tags": [{"tag_name": name, "regex": regex} for name, regex in _TAGS.items()],
            "stats_matcher": {"inclusion_list": {"patterns": _patterns(annotations, config or {})}},
            "histogram_bucket_settings": [{"match": {"safe_regex": {"regex": ".*_bytes"}}, "buckets": _SIZES}],
        },
        "deferred_stat_options": {"enable_deferred_creation_stats": True},
        "stats_eviction_interval": "3600s",
    }


def _patterns(annotations: Mapping[str, str], config: Mapping[str, object]) -> list[Json]:
    prefixes = (*_PREFIXES, *_listed(annotations, "Prefixes"), *_matched(config, "Prefixes"))
    suffixes = (*_SUFFIXES, *_listed(annotations, "Suffixes"), *_matched(config, "Suffixes"))
    regexes = (*_REGEXES, *_listed(annotations, "Regexps"), *_matched(config, "Regexps"))
    return [
        *({"prefix": prefix} for prefix in prefixes),
        *({"suffix": suffix} for suffix in suffixes),
        *({"safe_regex": {"regex": regex}} for regex in regexes),
    ]


def _matched(config: Mapping[str, object], what: str) -> list[str]:
    matcher = config.get("proxyStatsMatcher")
    listed = matcher.get(f"inclusion{what}") if isinstance(matcher, Mapping) else None
    return [str(each) for each in listed] if isinstance(listed, list | tuple) else []


def _listed(annotations: Mapping[str, str], what: str) -> list[str]:
    return [entry.strip() for entry in annotations.get(_ANNOTATION + what, "").split(",") if entry.strip()]
