"""Secrets that proxies ask for: certificates with their keys, kept apart from everything that is dumped or logged.

Keys never enter a table of the pipeline. They come from the source of secrets straight into the vault, and leave it only
for a proxy in the namespace that the secret belongs to (Istio's rule for `credentialName`). A name without a namespace
means the asking proxy's own: a DestinationRule is there for clients of many namespaces.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from meltemi.envoy.resource import Resource
from meltemi.protos.envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret

PREFIX = "kubernetes://"


class Vault:
    """Secrets by the name that proxies ask for, `kubernetes://<namespace>/<name>` or `kubernetes://<name>`."""

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
            self._on_change(PREFIX + name.removeprefix(PREFIX).partition("/")[2], old_version)

    def lookup(self, name: str, namespace: str) -> Resource | None:
        """The secret of that name, if a proxy of that namespace may have it."""
        owner, separator, _ = name.removeprefix(PREFIX).partition("/")
        if separator:
            return self._secrets.get(name) if owner == namespace else None
        own = self._secrets.get(f"{PREFIX}{namespace}/{owner}")
        return _called(name, own) if own is not None else None


def _called(name: str, secret: Resource) -> Resource:
    """A secret under another name. Of a field that comes twice in a message, the later one counts (Protocol Buffers)."""
    return msgspec.structs.replace(secret, name=name, body=secret.body + Secret(name=name).SerializeToString())
