"""Kubeconfig files and in-cluster configuration."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from meltemi.kube.config import ConfigError, ExecPlugin, in_cluster, load
from meltemi.kube.credentials import Credentials


def write(path: Path, user: dict[str, Any] | None = None, **cluster: Any) -> Path:
    document = {
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443/", **cluster}}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [
            {"name": "one", "context": {"cluster": "c", "user": "u", "namespace": "shop"}},
            {"name": "two", "context": {"cluster": "missing", "user": "u"}},
        ],
        "current-context": "one",
    }
    path.write_text(yaml.safe_dump(document))
    return path


def test_the_current_context_is_used_unless_another_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "config", {"token": "t"})
    connection = load(file)
    assert (connection.server, connection.namespace, connection.token) == ("https://127.0.0.1:6443", "shop", "t")
    with pytest.raises(ConfigError, match=r"has no cluster 'missing' \(it has: c\)"):
        load(file, "two")
    with pytest.raises(ConfigError, match=r"has no context 'three' \(it has: one, two\)"):
        load(file, "three")


def test_certificates_come_inline_or_from_files_beside_the_kubeconfig(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("KEY")
    inline = base64.b64encode(b"CA").decode()
    file = write(tmp_path / "config", {"client-key": "key.pem"}, **{"certificate-authority-data": inline})
    connection = load(file)
    assert (connection.ca, connection.client_key) == (b"CA", b"KEY")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(write(tmp_path / "config", {"client-key": "missing.pem"}))


def test_the_file_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match=f"no kubeconfig file at {tmp_path / 'none'}"):
        load()


def test_inside_a_pod_the_mounted_token_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("t\n")
    (tmp_path / "namespace").write_text("shop")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    connection = in_cluster(tmp_path)
    assert (connection.server, connection.namespace) == ("https://[fd00::1]:443", "shop")
    assert connection.token_file == str(tmp_path / "token")


def test_a_connection_does_not_show_its_secrets(tmp_path: Path) -> None:
    assert "secret" not in repr(load(write(tmp_path / "config", {"token": "secret"})))


async def test_a_rotated_token_file_is_read_again_once_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("one")
    credentials = Credentials(load(write(tmp_path / "config", {"tokenFile": "token"})))
    assert await credentials.header() == "Bearer one"
    (tmp_path / "token").write_text("two")
    assert await credentials.header() == "Bearer one"
    credentials.forget()
    assert await credentials.header() == "Bearer two"


async def test_a_plugin_prints_the_token(tmp_path: Path) -> None:
    script = 'printf \'{"status": {"token": "%s"}}\' "$WORD"'
    user = {"exec": {"command": "sh", "args": ["-c", script], "env": [{"name": "WORD", "value": "printed"}]}}
    connection = load(write(tmp_path / "config", user))
    assert connection.plugin == ExecPlugin("sh", ("-c", script), (("WORD", "printed"),))
    assert await Credentials(connection).header() == "Bearer printed"


async def test_a_plugin_that_fails_tells_why(tmp_path: Path) -> None:
    user = {"exec": {"command": "sh", "args": ["-c", "echo no luck >&2; exit 3"]}}
    credentials = Credentials(load(write(tmp_path / "config", user)))
    with pytest.raises(ConfigError, match=r"failed \(3\): no luck"):
        await credentials.header()
