"""A line for every certificate: who got which identity, until when.

A stolen token or a wrong role binding shows here and nowhere else. Lines are JSON, one per certificate, appended to a
file that only its owner may read; the file is opened per line, so that it can be rotated by moving it away.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import msgspec

from meltemi.ca.authentication import Caller
from meltemi.ca.authority import Issued


class AuditLine(msgspec.Struct, frozen=True):
    """One certificate issued. Times are RFC 3339; `peer` is the address that asked."""

    time: datetime
    serial: str
    identity: str
    not_after: datetime
    namespace: str
    service_account: str
    pod: str
    pod_uid: str
    peer: str


class AuditLog:
    """Appends to a file, or drops the lines if no file is named."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def record(self, issued: Issued, caller: Caller, peer: str, now: datetime) -> None:
        """Writes the line of a certificate. Raises OSError if it cannot: then the certificate must not be handed out."""
        if self._path is None:
            return
        line = AuditLine(
            now,
            issued.serial,
            str(issued.identity),
            issued.not_after,
            caller.namespace,
            caller.service_account,
            caller.pod,
            caller.pod_uid,
            peer,
        )
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, msgspec.json.encode(line) + b"\n")
        finally:
            os.close(descriptor)
