"""Fixtures of the agent: a fixed time, an authority, and one proxy's description."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from meltemi.agent.identity import Identity, Renewal
from meltemi.agent.spec import Address, Ports, ProxySpec
from meltemi.base.spiffe import SpiffeId
from meltemi.ca.authority import Authority, load_authority, new_root

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
CART = SpiffeId("cluster.local", "shop", "cart")


@pytest.fixture(scope="session")
def authority() -> Authority:
    return load_authority(new_root("cluster.local", NOW), NOW)


@pytest.fixture
def identity() -> Identity:
    return Identity(CART, Renewal(ttl=timedelta(hours=2)), Random(7), NOW)


@pytest.fixture
def spec(tmp_path: Path) -> ProxySpec:
    return ProxySpec(
        pod="cart-7f",
        namespace="shop",
        service_account="cart",
        ip="10.244.0.7",
        workload="cart",
        owner="kubernetes://apis/apps/v1/namespaces/shop/deployments/cart",
        labels={"app": "cart", "version": "v2"},
        sds_socket=str(tmp_path / "sds.sock"),
        token=str(tmp_path / "token"),
        roots=str(tmp_path / "root-cert.pem"),
        control_plane=Address("10.244.0.1", 15011),
        authority=Address("10.244.0.1", 15012),
        cluster_id="local",
        region="eu",
        zone="eu-1",
        ports=Ports(),
    )
