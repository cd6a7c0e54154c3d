"""The control plane's own certificate, as gRPC asks for it at every handshake."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from meltemi.ca.authority import load_authority, new_root
from meltemi.ca.serving import ServingCertificate, control_plane_identity


def test_grpc_gets_a_configuration_only_when_the_certificate_is_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It exchanges what handshakes are made with on each, and crashes if others are under way: so once a half-life."""
    given: list[Callable[[], Any]] = []
    monkeypatch.setattr(grpc, "dynamic_ssl_server_credentials", lambda first, fetch, required: given.append(fetch))
    now = datetime.now(UTC)
    times = [now]
    authority = load_authority(new_root("cluster.local", now), now)
    serving = ServingCertificate(authority, control_plane_identity("cluster.local"), lambda: times[-1])
    serving.credentials(require_client=True)
    (fetch,) = given

    assert [fetch() for _ in range(3)] == [None, None, None]
    times.append(now + timedelta(hours=13))
    assert fetch() is not None
    assert fetch() is None
