"""What the control plane and the agent call by the same names: a type of resource, and a mark.

An agent that answers for names connects for its proxy, with the proxy's node and certificate. The mark in the node's
metadata says that it is not the proxy itself, so that nobody is counted twice.
"""

from __future__ import annotations

NAMES = "type.googleapis.com/istio.networking.nds.v1.NameTable"
"""Istio's name discovery: one resource for each host, with the host as its name."""

COMPANION = "MELTEMI_COMPANION"
"""The node metadata of a connection that an agent makes beside its proxy's own."""

KUBERNETES = "Kubernetes"
"""The registry of hosts that have short names."""
