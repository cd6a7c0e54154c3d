"""Meltemi: a service mesh with a Python control plane and stock Envoy proxies."""

__version__ = "0.1.0"
