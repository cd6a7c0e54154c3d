"""The `Authorization` header, kept fresh: fixed tokens, token files that rotate, exec plug-ins, passwords."""

from __future__ import annotations

import asyncio
import base64
import os
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from meltemi.kube.config import ConfigError, Connection, ExecPlugin

_TOKEN_FILE_AGE = 60.0
"""Seconds after which a token file is read again (the kubelet rotates it well before it expires)."""


class Credentials:
    """Gives the `Authorization` header of a connection, and reads its source anew when it may have aged."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._token = connection.token
        self._fresh_until = 0.0

    async def header(self) -> str:
        """The header's value, or an empty string where the connection needs none. Raises ConfigError."""
        connection = self._connection
        if connection.plugin is not None and time.time() >= self._fresh_until:
            self._token, self._fresh_until = await _run_plugin(connection.plugin)
        elif connection.token_file and time.time() >= self._fresh_until:
            self._token, self._fresh_until = _read_token(connection.token_file), time.time() + _TOKEN_FILE_AGE
        if self._token:
            return f"Bearer {self._token}"
        if connection.username:
            pair = f"{connection.username}:{connection.password}".encode()
            return f"Basic {base64.b64encode(pair).decode()}"
        return ""

    def forget(self) -> None:
        """What we have was refused: read its source again next time."""
        self._fresh_until = 0.0


def _read_token(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise ConfigError(f"the token file {path} cannot be read: {error.strerror}") from error


async def _run_plugin(plugin: ExecPlugin) -> tuple[str, float]:
    """The token that an exec plug-in prints, and until when (seconds since the epoch) it is good."""
    question = {"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": {"interactive": False}}
    environment = {**os.environ, **dict(plugin.env), "KUBERNETES_EXEC_INFO": msgspec.json.encode(question).decode()}
    try:
        process = await asyncio.create_subprocess_exec(
            plugin.command,
            *plugin.args,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
    except OSError as error:
        raise ConfigError(f"the credential plug-in {plugin.command!r} cannot be run: {error.strerror}") from error
    if process.returncode:
        reason = errors.decode("utf-8", "replace").strip()
        raise ConfigError(f"the credential plug-in {plugin.command!r} failed ({process.returncode}): {reason}")
    try:
        status: dict[str, Any] = msgspec.json.decode(output)["status"]
        return str(status["token"]), _expiry(status.get("expirationTimestamp"))
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        raise ConfigError(f"the credential plug-in {plugin.command!r} printed no token") from error


def _expiry(text: str | None) -> float:
    """Ten seconds before an RFC 3339 time; an hour from now where none is given."""
    if not text:
        return time.time() + 3600
    return datetime.fromisoformat(text).timestamp() - 10
