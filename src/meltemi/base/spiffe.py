"""SPIFFE identities as Istio writes them: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.

Source: the SPIFFE ID standard, and Istio's `pkg/spiffe`.
"""

from __future__ import annotations

import re

import msgspec

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+")


class SpiffeId(msgspec.Struct, frozen=True, order=True, gc=False):
    """The identity of a workload: its trust domain, namespace and service account."""

    trust_domain: str
    namespace: str
    service_account: str

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"

    @classmethod
    def parse(cls, text: str) -> SpiffeId:
        """The identity that a URI names. Raises ValueError if it is not one of a workload of a mesh."""
        scheme, _, rest = text.partition("://")
        parts = rest.split("/")
        if scheme != "spiffe" or len(parts) != 5 or parts[1] != "ns" or parts[3] != "sa":
            raise ValueError(f"{text!r} is not of the form spiffe://<trust domain>/ns/<namespace>/sa/<service account>")
        if not _TRUST_DOMAIN.fullmatch(parts[0]):
            raise ValueError(f"{parts[0]!r} is not a trust domain (lower-case letters, digits, '.', '-' and '_')")
        for part in (parts[2], parts[4]):
            if not _SEGMENT.fullmatch(part) or part in (".", ".."):
                raise ValueError(f"{part!r} is not a segment of a SPIFFE path")
        return cls(parts[0], parts[2], parts[4])
