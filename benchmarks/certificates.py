"""A certificate authority on disk, and certificates of the proxies that pretend to be there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.big_mesh import Identity
from meltemi.ca.authority import open_authority, private_pem


def equip(directory: Path, identities: Sequence[Identity]) -> None:
    """Write the authority's state, and for each proxy its key with its chain, and what its node says of it."""
    now = datetime.now(UTC)
    authority = open_authority(directory / "ca", organization="meltemi", now=now)
    (directory / "roots.pem").write_text(authority.trust_bundle)
    entries = []
    made: dict[str, str] = {}
    for number, each in enumerate(identities):
        certificate = made.get(str(each.spiffe))
        if certificate is None:
            certificate = made[str(each.spiffe)] = f"{number}.pem"
            key = ec.generate_private_key(ec.SECP256R1())
            issued = authority.issue(key.public_key(), each.spiffe, timedelta(hours=2), now)
            (directory / certificate).write_bytes(private_pem(key) + "".join(issued.chain).encode())
            (directory / certificate).chmod(0o600)
        namespace = each.namespace
        address = f"10.250.{number // 250}.{number % 250 + 1}"
        entries.append(
            {
                "id": f"sidecar~{address}~{each.pod}.{namespace}~{namespace}.svc.cluster.local",
                "account": each.account,
                "certificate": certificate,
                "metadata": {
                    "NAMESPACE": namespace,
                    "SERVICE_ACCOUNT": each.account,
                    "WORKLOAD_NAME": each.account,
                    "INSTANCE_IPS": address,
                    "LABELS": each.labels,
                    "CLUSTER_ID": "Kubernetes",
                },
            }
        )
    (directory / "fleet.json").write_text(json.dumps(entries))
