"""Settings of the mesh as a whole: Istio's `MeshConfig` and `ProxyConfig`."""

from meltemi.api.mesh.config import MeshConfig, MeshConfigSpec
from meltemi.api.mesh.proxy import ProxyConfig

__all__ = ["MeshConfig", "MeshConfigSpec", "ProxyConfig"]
