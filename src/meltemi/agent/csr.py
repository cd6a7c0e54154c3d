"""Asks the mesh's authority for certificates: `istio.v1.auth.IstioCertificateService/CreateCertificate`.

The workload's token proves who asks. It is read anew for every request, because whoever wrote it replaces it in time.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from meltemi.agent import wire
from meltemi.agent.call import CallError, Target, unary
from meltemi.agent.spec import Address
from meltemi.base.protobuf import WireError
from meltemi.base.spiffe import SpiffeId

_METHOD = "/istio.v1.auth.IstioCertificateService/CreateCertificate"


class CertificateClient:
    """The authority as one workload sees it. `token` and `roots` are asked for at every request."""

    def __init__(
        self,
        address: Address,
        identity: SpiffeId,
        *,
        token: Callable[[], str],
        roots: Callable[[], bytes],
        cluster_id: str = "",
        seconds: float = 10,
    ) -> None:
        self._address = address
        self._identity = identity
        self._token = token
        self._roots = roots
        self._cluster_id = cluster_id
        self._seconds = seconds

    async def sign(self, csr: bytes, ttl: timedelta) -> tuple[str, ...]:
        """The chain for a signing request (PEM): leaf, intermediates, the mesh's roots. Raises CallError."""
        try:
            token, roots = self._token(), self._roots()
        except OSError as error:
            raise CallError(f"cannot read {error.filename}: {error.strerror}") from error
        request = wire.certificate_request(csr.decode(), int(ttl.total_seconds()), self._cluster_id)
        name = f"{self._identity.service_account}.{self._identity.namespace}.svc"
        target = Target(self._address, name, self._identity, roots)
        metadata = [("authorization", f"Bearer {token.strip()}")]
        answer = await unary(target, _METHOD, request, metadata, seconds=self._seconds)
        try:
            return wire.certificate_chain(answer)
        except WireError as error:
            raise CallError("the authority's answer cannot be read") from error


def read_from(path: str) -> Callable[[], str]:
    """A token in a file, read whenever it is needed."""
    return lambda: Path(path).read_text(encoding="utf-8")
