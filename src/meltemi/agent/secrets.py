"""The secrets of one proxy as Envoy takes them, and what is on disk of those that are files.

Invariant: one `Secrets` belongs to one proxy and holds nothing of another's; no secret shows in a repr or a version.

Source: `envoy.extensions.transport_sockets.tls.v3.Secret`; the names `default`, `ROOTCA`, `file-cert:<cert>~<key>` and
`file-root:<path>` are Istio's.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from meltemi.agent import wire
from meltemi.agent.identity import Certificate

log = logging.getLogger(__name__)

IDENTITY = "default"
ROOTS = "ROOTCA"
FILE_CERTIFICATE = "file-cert:"
FILE_ROOTS = "file-root:"

_PEM_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class Secret(msgspec.Struct, frozen=True):
    """A finished secret: its version changes when its content does, and `body` is the serialised message."""

    name: str
    version: str
    body: bytes

    def __repr__(self) -> str:
        return f"<Secret {self.name} {self.version}>"


def identity_secret(certificate: Certificate) -> Secret:
    """The workload's certificate with its key."""
    return key_pair(IDENTITY, certificate.chain, certificate.key.pem())


def key_pair(name: str, chain: bytes, key: bytes) -> Secret:
    """A certificate chain with its key (both PEM)."""
    return Secret(name, _version(chain), wire.tls_certificate(name, chain, key))


def roots_secret(name: str, roots: bytes) -> Secret:
    """The certificates (PEM) that vouch for peers."""
    return Secret(name, _version(roots), wire.validation_context(name, roots))


def _version(public_part: bytes) -> str:
    return hashlib.blake2b(public_part, digest_size=8).hexdigest()


def bundle(*pems: bytes) -> bytes:
    """All certificates of several PEM texts, each once, in order of first appearance."""
    seen: dict[bytes, None] = {}
    for pem in pems:
        for certificate in _PEM_CERTIFICATE.findall(pem):
            seen.setdefault(certificate.replace(b"\r", b""))
    return b"".join(certificate + b"\n" for certificate in seen)


class Secrets:
    """What one proxy can be served now, and who wants to hear when that changes."""

    def __init__(self, files: FileSecrets) -> None:
        self._secrets: dict[str, Secret] = {}
        self._listeners: set[Callable[[], None]] = set()
        self._files = files
        self._wanted_files: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<Secrets {', '.join(sorted(self._secrets)) or 'none'}>"

    def get(self, name: str) -> Secret | None:
        """The secret of that name, if there is one yet."""
        return self._secrets.get(name)

    def put(self, *secrets: Secret) -> None:
        """Serves these from now on. Whoever subscribed hears once, and only if something changed."""
        changed = [secret for secret in secrets if self._secrets.get(secret.name) != secret]
        self._secrets |= {secret.name: secret for secret in changed}
        if changed:
            for listener in list(self._listeners):
                listener()

    def want(self, names: Iterable[str]) -> None:
        """Somebody asks for these; the ones that are files are read now and, from now on, at every `refresh`."""
        files = [name for name in names if name.startswith((FILE_CERTIFICATE, FILE_ROOTS))]
        new = [name for name in files if name not in self._wanted_files]
        self._wanted_files |= dict.fromkeys(new, "")
        if new:
            self.refresh()

    def refresh(self) -> None:
        """Reads the files that were asked for. One that cannot be read keeps its last content."""
        for name, last_complaint in list(self._wanted_files.items()):
            try:
                secret, complaint = self._files.load(name), ""
            except OSError as error:
                secret, complaint = None, str(error)
            if secret is not None:
                self.put(secret)
            elif complaint != last_complaint:
                log.warning("cannot serve %s: %s", name, complaint)
            self._wanted_files[name] = complaint

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Calls `listener` at every change, until the function that is returned is called."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)


class FileSecrets:
    """Secrets that are files of a workload, below the one directory that is its own (none if that is empty)."""

    def __init__(self, directory: str) -> None:
        self._root = Path(directory).resolve() if directory else None

    def load(self, name: str) -> Secret:
        """The secret that a name such as `file-root:/etc/certs/ca.pem` stands for.

        Raises OSError if a file cannot be read, PermissionError if it is outside of the directory.
        """
        if name.startswith(FILE_CERTIFICATE):
            chain, _, key = name.removeprefix(FILE_CERTIFICATE).partition("~")
            return key_pair(name, self._read(chain), self._read(key))
        return roots_secret(name, self._read(name.removeprefix(FILE_ROOTS)))

    def _read(self, path: str) -> bytes:
        if self._root is None:
            raise PermissionError(f"no files are served to this proxy: {path}")
        found = (self._root / path.lstrip("/")).resolve()
        if not found.is_relative_to(self._root):
            raise PermissionError(f"{path} leads out of the workload's files")
        return found.read_bytes()
