"""`istio.v1.auth.IstioCertificateService` over gRPC: a proven caller and a signing request in, a chain out.

All decisions are in the pure modules beside this one; here they are put in order and their refusals become gRPC
statuses. Invariant: no certificate leaves before its audit line is written, and the identity in it is the one that the
caller's token stands for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import grpc
import grpc.aio

from meltemi.ca.audit import AuditLog
from meltemi.ca.authentication import Authenticator, Caller
from meltemi.ca.authority import Authority, Issued
from meltemi.ca.errors import AuthorityError, CsrRefused, ReviewUnavailable, Unauthenticated
from meltemi.ca.metrics import CaMetrics
from meltemi.ca.serving import GRPC_OPTIONS, ServingCertificate
from meltemi.protos.istio.v1.auth.ca_pb2 import IstioCertificateRequest, IstioCertificateResponse
from meltemi.protos.services import handler

SERVICE = "istio.v1.auth.IstioCertificateService"
MAX_REQUEST_BYTES = 64 * 1024
"""No signing request of an accepted key comes near it."""

_IMPERSONATED = "ImpersonatedIdentity"
_LONGEST_SECONDS = 100 * 365 * 86400

log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]


class CertificateService:
    """The service for one authority and one trust domain."""

    def __init__(
        self,
        authority: Authority,
        authenticator: Authenticator,
        *,
        trust_domain: str,
        metrics: CaMetrics,
        audit: AuditLog,
        clock: Callable[[], datetime],
    ) -> None:
        self._authority = authority
        self._authenticator = authenticator
        self._trust_domain = trust_domain
        self._metrics = metrics
        self._audit = audit
        self._clock = clock

    def handler(self) -> grpc.GenericRpcHandler:
        """What a grpc.aio server takes to serve this."""
        return handler(SERVICE, {"CreateCertificate": self.create_certificate})

    async def create_certificate(self, request: IstioCertificateRequest, context: Context) -> IstioCertificateResponse:
        """Signs for the caller. Refusals: UNAUTHENTICATED, PERMISSION_DENIED, INVALID_ARGUMENT, UNAVAILABLE, INTERNAL."""
        self._metrics.count("csr_count")
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        try:
            caller = await self._caller(metadata)
            issued = self._issue(request, caller, context.peer())
        except _Refusal as refusal:
            self._metrics.count(refusal.count)
            log.info("refused a certificate to %s: %s", context.peer(), refusal)
            await context.abort(refusal.code, str(refusal))
        self._metrics.count("success_cert_issuance_count")
        log.info("issued %s until %s, serial %s", issued.identity, issued.not_after, issued.serial)
        return IstioCertificateResponse(cert_chain=issued.chain)

    async def _caller(self, metadata: Mapping[str, str]) -> Caller:
        try:
            return await self._authenticator.authenticate(metadata)
        except Unauthenticated as error:
            raise _Refusal("authentication_failure_count", grpc.StatusCode.UNAUTHENTICATED, str(error)) from error
        except ReviewUnavailable as error:
            log.warning("%s", error)
            message = "the token cannot be reviewed now"
            raise _Refusal("authentication_failure_count", grpc.StatusCode.UNAVAILABLE, message) from error

    def _issue(self, request: IstioCertificateRequest, caller: Caller, peer: str) -> Issued:
        if _IMPERSONATED in request.metadata.fields:
            message = "certificates of other identities than the caller's own are not issued"
            raise _Refusal("id_extraction_err_count", grpc.StatusCode.PERMISSION_DENIED, message)
        now = self._clock()
        ttl = timedelta(seconds=max(0, min(request.validity_duration, _LONGEST_SECONDS)))
        try:
            issued = self._authority.sign(request.csr.encode(), caller.identity(self._trust_domain), ttl, now)
            self._audit.record(issued, caller, peer, now)
        except CsrRefused as error:
            raise _Refusal("csr_parsing_err_count", grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error
        except (AuthorityError, OSError) as error:
            log.error("cannot issue a certificate to %s/%s: %s", caller.namespace, caller.service_account, error)
            message = "the authority cannot sign now"
            raise _Refusal("csr_sign_err_count", grpc.StatusCode.INTERNAL, message) from error
        return issued


class _Refusal(Exception):
    """A request that is refused: what it counts as, and how the client is told."""

    def __init__(self, count: str, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.count = count
        self.code = code


def certificate_server(
    service: CertificateService, serving: ServingCertificate, address: str
) -> tuple[grpc.aio.Server, int]:
    """A server for `service` at `address` (`host:port`) over TLS, not yet started, and its port.

    Clients prove themselves by their token; no client certificate is asked for. Raises RuntimeError if the address
    cannot be bound.
    """
    server = grpc.aio.server(options=[*GRPC_OPTIONS, ("grpc.max_receive_message_length", MAX_REQUEST_BYTES)])
    server.add_generic_rpc_handlers((service.handler(),))
    return server, server.add_secure_port(address, serving.credentials(require_client=False))
