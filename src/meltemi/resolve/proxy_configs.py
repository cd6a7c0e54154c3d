"""ProxyConfigs that are never heeded, told to their authors. Nothing of them is configuration: proxies start with them."""

from __future__ import annotations

from collections.abc import Iterator

from meltemi.api.networking import ProxyConfig
from meltemi.base.labels import LabelSet
from meltemi.base.problems import Problem
from meltemi.flow import View
from meltemi.resolve import problems


def conflicts(config: ProxyConfig, *, configs: View[tuple[str, str], ProxyConfig]) -> Iterator[Problem]:
    """The problem of a ProxyConfig, if an older one is for the same workloads. Makes no row."""
    rivals = (each for each in configs.by("namespace", config.namespace) if _selector(each) == _selector(config))
    hint = "keep one ProxyConfig without a selector in a namespace, and one for each selector"
    yield from problems.overruled(config, rivals, "spec.selector", "ProxyConfigConflict", hint)


def _selector(config: ProxyConfig) -> LabelSet:
    return LabelSet.of(config.spec.selector.match_labels) if config.spec.selector else LabelSet()
