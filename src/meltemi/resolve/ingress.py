"""Ports that a Sidecar declares for its workloads (`ingress`): where the proxy listens, and what it leads to.

Connections to a port are captured, as a rule, and keep the address that they were for. With `captureMode: NONE` nothing
is captured: the proxy listens by itself, at `bind` or at the pod's own address, and leads to the application elsewhere:
to its localhost, unless `defaultEndpoint` says another place. That is the only case in which a view depends on one
pod's address.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from meltemi.api.networking import Sidecar
from meltemi.api.networking.gateway import ServerTlsSettings, TlsCertificate
from meltemi.api.networking.sidecar import IngressListener
from meltemi.base.problems import Problem
from meltemi.flow import View
from meltemi.model import proxies as model
from meltemi.model.gateways import ServerTls, ServerTlsMode
from meltemi.model.proxies import InboundPort
from meltemi.model.security import MutualTls, PeerPolicy
from meltemi.model.services import Protocol, Service
from meltemi.resolve import problems, protocols
from meltemi.resolve.credentials import Credential
from meltemi.resolve.inbound_limits import Limits

Credentials = View[tuple[str, str], Credential]

LOCALHOST = "127.0.0.1"
ANY_ADDRESS = ("", "0.0.0.0", "::")
CA_SUFFIX = "-cacert"
_ANY_ADDRESS = "0.0.0.0"
_OPENED = {Protocol.HTTPS: Protocol.HTTP, Protocol.TLS: Protocol.TCP}
_OWN_TLS = ("SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL")


def needs_own_address(sidecar: Sidecar) -> bool:
    """Whether its ports are made otherwise for each pod, because the pod's own address is in them."""
    return any(
        each.capture_mode == "NONE" and (each.bind in ANY_ADDRESS or each.default_endpoint.startswith(_ANY_ADDRESS))
        for each in sidecar.spec.ingress
    )


def ports(
    sidecar: Sidecar,
    behind: Sequence[tuple[Service, int, int]],
    view: model.View,
    peer: PeerPolicy,
    limits: Limits,
    credentials: Credentials,
) -> Generator[Problem, None, list[InboundPort]]:
    """The ports of a Sidecar, each with the service that sends there. `behind`: services, their ports, and the workload's."""
    found = []
    for position, listener in enumerate(sidecar.spec.ingress):
        number = listener.port.number
        service, service_port = next(
            ((service, port) for service, port, target in behind if number in (target, port)), (None, number)
        )
        tls = yield from _tls(sidecar, position, listener, view, peer, credentials)
        protocol = protocols.declared(listener.port.protocol)
        pool, refs = limits.of(number, service, service_port)
        found.append(
            InboundPort(
                number,
                _OPENED.get(protocol, protocol) if tls else protocol,
                peer.of(number),
                service.host if service else "",
                service_port,
                _endpoint(listener, view),
                service.name if service else "",
                service.namespace if service else "",
                bind=view.address
                if listener.capture_mode == "NONE" and listener.bind in ANY_ADDRESS
                else listener.bind,
                captured=listener.capture_mode != "NONE",
                tls=tls,
                pool=pool,
                refs=refs,
            )
        )
    return found


def _endpoint(listener: IngressListener, view: model.View) -> str:
    """Where connections go. One that was not captured has no address that it was for, so that one must be named."""
    endpoint = listener.default_endpoint
    if listener.capture_mode != "NONE":
        return endpoint
    if not endpoint:
        return f"{LOCALHOST}:{listener.port.number}"
    if endpoint.startswith(_ANY_ADDRESS):
        return f"{view.address or LOCALHOST}{endpoint.removeprefix(_ANY_ADDRESS)}"
    return endpoint


def _tls(
    sidecar: Sidecar,
    position: int,
    listener: IngressListener,
    view: model.View,
    peer: PeerPolicy,
    credentials: Credentials,
) -> Generator[Problem, None, ServerTls | None]:
    """TLS that the port ends itself, which it may only where it does not end the mesh's."""
    tls, path = listener.tls, f"spec.ingress[{position}].tls"
    if tls is None or tls.mode not in _OWN_TLS:
        return None
    if peer.of(listener.port.number) is not MutualTls.DISABLE:
        yield problems.warning(
            sidecar,
            path,
            "TlsNotInEffect",
            f"port {listener.port.number} takes the mesh's mutual TLS, so that it does not end any other",
            "disable mutual TLS for this port in a PeerAuthentication (portLevelMtls)",
        )
        return None
    names = (tls.credential_name,) if tls.credential_name else tls.credential_names
    wanted = [*names, *([_authorities(tls, names)] if _authorities(tls, names) else [])]
    for name in wanted:
        own = credentials.get((view.namespace, name))
        beside = credentials.get((view.namespace, name.removesuffix(CA_SUFFIX)))
        if own is None and beside is None:
            yield problems.of(
                sidecar,
                f"{path}.credentialName",
                "CredentialNotFound",
                f"there is no Secret {view.namespace}/{name}: the port takes nobody in until there is",
                f"create it in namespace {view.namespace}, where the workload runs",
            )
    return _settings(tls, names, view.namespace)


def _authorities(tls: ServerTlsSettings, names: Sequence[str]) -> str:
    """The Secret with the authorities that clients' certificates are checked with, if any."""
    if not names or tls.mode == "SIMPLE":
        return ""
    return tls.ca_cert_credential_name or f"{names[0]}{CA_SUFFIX}"


def _settings(tls: ServerTlsSettings, names: Sequence[str], namespace: str) -> ServerTls:
    files = TlsCertificate(
        server_certificate=tls.server_certificate, private_key=tls.private_key, ca_certificates=tls.ca_certificates
    )
    if tls.tls_certificates:
        files = tls.tls_certificates[0]
    authorities = _authorities(tls, names)
    checks = tls.mode != "SIMPLE"
    return ServerTls(
        mode=ServerTlsMode(tls.mode),
        credentials=tuple(f"kubernetes://{namespace}/{name}" for name in names),
        ca_credential=f"kubernetes://{namespace}/{authorities}" if authorities else "",
        certificate_file=files.server_certificate,
        private_key_file=files.private_key,
        more_files=tuple((each.server_certificate, each.private_key) for each in tls.tls_certificates[1:]),
        ca_file=files.ca_certificates,
        revoked_file=tls.ca_crl if checks else "",
        key_digests=tls.verify_certificate_spki if checks else (),
        certificate_digests=tls.verify_certificate_hash if checks else (),
        min_version="" if tls.min_protocol_version == "TLS_AUTO" else tls.min_protocol_version,
        max_version="" if tls.max_protocol_version == "TLS_AUTO" else tls.max_protocol_version,
        cipher_suites=tls.cipher_suites,
    )
