"""ProxyConfigs that lose to older ones."""

from __future__ import annotations

from typing import Any


def config(name: str, spec: str, created: str) -> str:
    return f"""
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {{name: {name}, creationTimestamp: "2026-01-0{created}T00:00:00Z"}}
spec: {spec}
---
"""


def test_of_two_for_the_same_workloads_the_younger_is_told(resolved: Any) -> None:
    resolved.apply(
        config("young", "{concurrency: 1}", "2")
        + config("old", "{concurrency: 2}", "1")
        + config("other", "{selector: {matchLabels: {app: a}}, concurrency: 3}", "3")
    )
    assert resolved.problems()["ProxyConfigConflict"].ref.name == "young"
