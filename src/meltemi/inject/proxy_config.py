"""The settings that one proxy starts with, of all that have a say in them.

From the weakest to the strongest: `defaultConfig` of the mesh, the ProxyConfig of the root namespace, that of the pod's
namespace, the pod's annotation `proxy.istio.io/config`, and the ProxyConfig that selects the pod. Maps are joined key by
key, lists are joined, and of anything else the stronger word holds. Of several ProxyConfigs at one step the oldest holds.

Source: Istio `pilot/pkg/model/proxy_config.go` (`EffectiveProxyConfig`). Invariant: pure; settings are read when a proxy
starts, and what changes later holds for those that start then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import yaml

from meltemi.api.mesh.proxy import ProxyConfig as Settings
from meltemi.api.networking import ProxyConfig
from meltemi.api.shaping import shape
from meltemi.base.ordering import seniority

ANNOTATION = "proxy.istio.io/config"

Wire = Mapping[str, Any]


def effective(
    default: Settings | None,
    configs: Iterable[ProxyConfig],
    namespace: str,
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
    root_namespace: str,
) -> Settings:
    """The settings of a pod's proxy. Raises ValueError, fit for users, if its annotation cannot be understood."""
    ranked = sorted(configs, key=seniority)
    everywhere = [each for each in ranked if each.namespace == root_namespace and not _selector(each)]
    around = [each for each in ranked if each.namespace == namespace and not _selector(each)]
    selecting = [
        each
        for each in ranked
        if each.namespace == namespace and (wanted := _selector(each)) and wanted.items() <= labels.items()
    ]
    found: Wire = msgspec.to_builtins(default) if default else {}
    for level in (everywhere, around):
        found = joined(found, _said(level))
    found = joined(found, annotated(annotations))
    return _settings(joined(found, _said(selecting)), "the settings of the proxy")


def annotated(annotations: Mapping[str, str]) -> Wire:
    """What a pod's own annotation says, as it was written. Raises ValueError, fit for users."""
    try:
        config = yaml.load(annotations.get(ANNOTATION, ""), yaml.CSafeLoader) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"the annotation {ANNOTATION} is not YAML: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"the annotation {ANNOTATION} is not a ProxyConfig, which has fields such as concurrency")
    wire: Wire = msgspec.to_builtins(_settings(config, f"the annotation {ANNOTATION}"))
    return wire


def joined(weaker: Wire, stronger: Wire) -> Wire:
    """Two settings as one, as protobuf merges messages."""
    result = dict(weaker)
    for name, value in stronger.items():
        before = result.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            result[name] = joined(before, value)
        elif isinstance(before, list | tuple) and isinstance(value, list | tuple):
            result[name] = [*before, *value]
        else:
            result[name] = value
    return result


def _selector(config: ProxyConfig) -> Mapping[str, str]:
    return config.spec.selector.match_labels if config.spec.selector else {}


def _said(level: list[ProxyConfig]) -> Wire:
    """What the oldest ProxyConfig of a step says, in the words of the mesh's `defaultConfig`."""
    if not level:
        return {}
    spec = level[0].spec
    said: dict[str, Any] = {"proxyMetadata": spec.environment_variables} if spec.environment_variables else {}
    return said if spec.concurrency is None else {**said, "concurrency": spec.concurrency}


def _settings(wire: Wire, what: str) -> Settings:
    shaped, faults = shape(dict(wire), Settings)
    if faults:
        raise ValueError(f"{what}: {faults[0].path}: {faults[0].message}")
    settings = msgspec.convert(shaped, Settings)
    if settings.concurrency is not None and settings.concurrency < 0:
        raise ValueError(f"{what}: a concurrency of {settings.concurrency} is negative")
    return settings
