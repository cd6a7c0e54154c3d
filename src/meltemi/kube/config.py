"""Where the API server is and how to prove who we are: from a kubeconfig file, or from within a pod.

Both lead to one frozen `Connection`. Credentials that change (token files, exec plug-ins) are kept as their source
and read anew when they age; `credentials.py` does so.
Source: the kubeconfig file format (`client.authentication.k8s.io`, `v1.Config`) and the in-cluster conventions.
"""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path
from typing import Any

import msgspec
import yaml

SERVICE_ACCOUNT_DIRECTORY = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class ConfigError(Exception):
    """No usable configuration; the message says what is missing and where it was looked for."""


class ExecPlugin(msgspec.Struct, frozen=True):
    """A program that prints an ExecCredential (kubeconfig `users[].user.exec`)."""

    command: str
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    api_version: str = "client.authentication.k8s.io/v1"


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """An API server and the credentials for it. Certificates and keys are PEM; empty where there are none."""

    server: str
    namespace: str = "default"
    ca: bytes = b""
    insecure: bool = False
    tls_server_name: str = ""
    client_certificate: bytes = b""
    client_key: bytes = b""
    token: str = ""
    token_file: str = ""
    username: str = ""
    password: str = ""
    plugin: ExecPlugin | None = None

    def __repr__(self) -> str:
        return f"<Connection {self.server} namespace {self.namespace}>"


def default_kubeconfig() -> Path:
    """The file that `KUBECONFIG` names, or `~/.kube/config`."""
    named = os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]
    return Path(named) if named else Path.home() / ".kube" / "config"


def load(path: Path | None = None, context: str = "") -> Connection:
    """The connection of a kubeconfig file's context (its current one unless named), else that of the pod we are in.

    Raises ConfigError.
    """
    file = path or default_kubeconfig()
    if path is None and not file.exists() and "KUBERNETES_SERVICE_HOST" in os.environ:
        return in_cluster()
    try:
        document = yaml.load(file.read_bytes(), yaml.CSafeLoader)
    except FileNotFoundError:
        raise ConfigError(f"there is no kubeconfig file at {file}") from None
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"the kubeconfig file {file} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{file} is not a kubeconfig file")
    return _of_document(document, context, file)


def in_cluster(directory: Path = SERVICE_ACCOUNT_DIRECTORY) -> Connection:
    """The connection that Kubernetes gives every pod: environment variables and a mounted token. Raises ConfigError."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    token = directory / "token"
    if not host or not token.exists():
        raise ConfigError(f"not inside a Kubernetes pod: KUBERNETES_SERVICE_HOST is not set or {token} is missing")
    namespace = directory / "namespace"
    return Connection(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        namespace=namespace.read_text().strip() if namespace.exists() else "default",
        ca=(directory / "ca.crt").read_bytes() if (directory / "ca.crt").exists() else b"",
        token_file=str(token),
    )


def _of_document(document: dict[str, Any], context: str, file: Path) -> Connection:
    name = context or document.get("current-context") or ""
    if not name:
        raise ConfigError(f"{file} has no current-context, and no context was named")
    chosen = _entry(document, "contexts", "context", name, file)
    cluster = _entry(document, "clusters", "cluster", chosen.get("cluster", ""), file)
    user = _entry(document, "users", "user", chosen["user"], file) if chosen.get("user") else {}
    if not cluster.get("server"):
        raise ConfigError(f"{file}: cluster {chosen.get('cluster')!r} has no server")
    return Connection(
        server=cluster["server"].rstrip("/"),
        namespace=chosen.get("namespace") or "default",
        ca=_pem(cluster, "certificate-authority", file),
        insecure=bool(cluster.get("insecure-skip-tls-verify")),
        tls_server_name=cluster.get("tls-server-name") or "",
        client_certificate=_pem(user, "client-certificate", file),
        client_key=_pem(user, "client-key", file),
        token=user.get("token") or "",
        token_file=str(file.parent / user["tokenFile"]) if user.get("tokenFile") else "",
        username=user.get("username") or "",
        password=user.get("password") or "",
        plugin=_plugin(user.get("exec")),
    )


def _entry(document: dict[str, Any], section: str, field: str, name: str, file: Path) -> dict[str, Any]:
    for entry in document.get(section) or ():
        if isinstance(entry, dict) and entry.get("name") == name:
            return dict(entry.get(field) or {})
    known = ", ".join(str(entry.get("name")) for entry in document.get(section) or () if isinstance(entry, dict))
    raise ConfigError(f"{file} has no {field} {name!r} (it has: {known or 'none'})")


def _pem(entry: dict[str, Any], field: str, file: Path) -> bytes:
    """A certificate or key, inline (base64) or from a file beside the kubeconfig."""
    if data := entry.get(f"{field}-data"):
        try:
            return base64.b64decode(data, validate=True)
        except binascii.Error as error:
            raise ConfigError(f"{file}: {field}-data is not base64: {error}") from error
    if not entry.get(field):
        return b""
    path = file.parent / str(entry[field])
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file}: {field} {path} cannot be read: {error.strerror}") from error


def _plugin(value: dict[str, Any] | None) -> ExecPlugin | None:
    if not value:
        return None
    return ExecPlugin(
        command=value.get("command") or "",
        args=tuple(value.get("args") or ()),
        env=tuple((pair["name"], pair["value"]) for pair in value.get("env") or ()),
        api_version=value.get("apiVersion") or "client.authentication.k8s.io/v1",
    )
