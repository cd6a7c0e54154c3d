"""What others have found already, under Istio's codes: decoding and validation, and the control plane's own tables.

The control plane tells what is wrong where objects meet (a host that nobody serves, rules that lose to older ones).
Its codes are finer than Istio's; one without a counterpart there stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from meltemi.analyze import messages
from meltemi.analyze.messages import Message
from meltemi.analyze.snapshot import Snapshot
from meltemi.api.networking import Sidecar
from meltemi.base.problems import Problem, Severity

# Codes of the control plane, by Istio's message.
_MESSAGES: dict[str, Message] = {
    "GatewayNotFound": messages.NOT_FOUND,
    "PortNotFound": messages.NOT_FOUND,
    "SubsetNotFound": messages.NOT_FOUND,
    "DelegateNotFound": messages.NOT_FOUND,
    "HostNotFound": messages.NOT_FOUND,
    "HostNotVisible": messages.NOT_FOUND,
    "DelegateNotVisible": messages.NOT_FOUND,
    "CredentialNotFound": messages.NOT_FOUND,
    "InvalidCredential": messages.INVALID_CREDENTIAL,
    "HostConflict": messages.CONFLICTING_HOSTS,
    "HostNotInGateway": messages.HOST_NOT_IN_GATEWAY,
    "PortRequired": messages.PORT_REQUIRED,
    "UnreachableRule": messages.UNREACHABLE,
    "Unreachable": messages.UNREACHABLE,
    "IneffectiveMatch": messages.INEFFECTIVE_MATCH,
    "AddressesRequired": messages.ADDRESSES_REQUIRED,
    "ServerConflict": messages.CONFLICTING_GATEWAYS,
    "InvalidRegex": messages.INVALID_REGEX,
    "DeprecatedField": messages.DEPRECATED,
}

# Codes that say more than "refused" or "accepted with a warning" and have no counterpart.
_OWN = frozenset({"FieldNotActedOn", "FieldNotHonoured", "UnknownKind", "WrittenTwice"})


def of_control_plane(problems: Iterable[Problem], snapshot: Snapshot) -> Iterator[Problem]:
    """Problems that the control plane tells of objects that could be decoded."""
    for problem in problems:
        message = _MESSAGES.get(problem.code)
        if problem.code == "SidecarConflict":
            sidecar = snapshot.get(Sidecar, problem.ref.namespace, problem.ref.name)
            selects = sidecar is not None and sidecar.spec.workload_selector is not None
            message = messages.CONFLICTING_SIDECARS if selects else messages.SEVERAL_SIDECARS
        elif problem.code == "HostNotFound" and problem.ref.kind == "DestinationRule":
            message = messages.UNKNOWN_HOST
        yield problem if message is None else _under(problem, message)


def of_objects(problems: Iterable[Problem]) -> Iterator[Problem]:
    """Problems that decoding and validation tell of single objects.

    What takes an object out of effect stays an error, whichever level Istio has for it.
    """
    for problem in problems:
        message = _MESSAGES.get(problem.code)
        if problem.code in _OWN:
            yield problem
        elif problem.severity is Severity.ERROR:
            code = messages.INVALID_REGEX.code if message is messages.INVALID_REGEX else messages.SCHEMA_ERROR.code
            yield msgspec.structs.replace(problem, code=code)
        elif message is not None:
            yield _under(problem, message)
        else:
            yield msgspec.structs.replace(problem, code=messages.SCHEMA_WARNING.code)


def control_plane(snapshot: Snapshot) -> Iterator[Problem]:
    """What the control plane would tell of these objects, before any proxy asks."""
    yield from of_control_plane(snapshot.pipeline.graph.problems(), snapshot)


def _under(problem: Problem, message: Message) -> Problem:
    return msgspec.structs.replace(problem, code=message.code, severity=message.severity)
