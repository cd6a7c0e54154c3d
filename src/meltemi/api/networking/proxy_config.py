"""ProxyConfig: how the proxies of some workloads are started. Source: Istio `networking/v1beta1/proxy_config.proto`."""

from __future__ import annotations

from meltemi.api.meta import MeshResource, Part, PolicyTargetReference, WorkloadSelector
from meltemi.api.scalars import Int32


class ProxyImage(Part, frozen=True, kw_only=True):
    """The image of the proxy."""

    image_type: str = ""


class ProxyConfigSpec(Part, frozen=True, kw_only=True):
    """The workloads meant (none said: all of the namespace, or of the mesh in the root namespace), and their proxies.

    `concurrency` is the number of worker threads, 0 for one on each core.
    """

    selector: WorkloadSelector | None = None
    concurrency: Int32 | None = None
    environment_variables: dict[str, str] = {}
    image: ProxyImage | None = None
    target_ref: PolicyTargetReference | None = None


class ProxyConfig(MeshResource, frozen=True, kw_only=True):
    """Settings that a proxy reads once, when it starts."""

    spec: ProxyConfigSpec = ProxyConfigSpec()
