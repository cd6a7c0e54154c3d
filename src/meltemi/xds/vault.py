"""Secrets that gateways ask for: certificates with their keys, kept apart from everything that is dumped or logged.

Keys never enter a table of the pipeline. They come from the source of secrets straight into the vault, and leave it only
for a proxy in the namespace that the secret belongs to (Istio's rule for `credentialName`).
"""

from __future__ import annotations

from collections.abc import Callable

from meltemi.envoy.resource import Resource

PREFIX = "kubernetes://"


class Vault:
    """Secrets by the name that proxies ask for, `kubernetes://<namespace>/<name>`."""

    def __init__(self, on_change: Callable[[str, str], None]) -> None:
        self._secrets: dict[str, Resource] = {}
        self._on_change = on_change

    def __repr__(self) -> str:
        return f"<Vault: {len(self._secrets)} secrets>"

    def put(self, name: str, secret: Resource | None) -> None:
        """Keep a secret under a name, or forget it (None); proxies that hold it are told."""
        old = self._secrets.get(name)
        if secret is None:
            self._secrets.pop(name, None)
        else:
            self._secrets[name] = secret
        old_version = old.version if old else ""
        if old_version != (secret.version if secret else ""):
            self._on_change(name, old_version)

    def lookup(self, name: str, namespace: str) -> Resource | None:
        """The secret of that name, if a proxy of that namespace may have it."""
        owner, _, _ = name.removeprefix(PREFIX).partition("/")
        return self._secrets.get(name) if owner == namespace else None
