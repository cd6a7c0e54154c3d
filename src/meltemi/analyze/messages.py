"""Every message that analysis has, by Istio's code, so that what filters and suppressions know of Istio holds here too.

Source: Istio `pkg/config/analysis/msg/messages.yaml`. The levels are Istio's. Codes of Istio that are about what only a
cluster's installation has (webhooks, versions of CRDs, several clusters) are not here.
"""

from __future__ import annotations

import msgspec

from meltemi.api.meta import Resource
from meltemi.base.problems import Problem, Severity


class Message(msgspec.Struct, frozen=True):
    """A kind of finding: its code, Istio's name for it, how bad it is, and what it means."""

    code: str
    name: str
    severity: Severity
    meaning: str

    def of(self, resource: Resource, path: str, text: str, hint: str) -> Problem:
        """The finding at a path of an object."""
        return Problem(
            ref=resource.ref,
            path=path,
            message=text,
            hint=hint,
            code=self.code,
            severity=self.severity,
            origin=resource.origin,
        )


_E, _W, _I = Severity.ERROR, Severity.WARNING, Severity.INFO

DEPRECATED = Message("IST0002", "Deprecated", _W, "a field that is deprecated is set")
NOT_FOUND = Message("IST0101", "ReferencedResourceNotFound", _E, "an object, host, port or subset is missing")
NAMESPACE_NOT_INJECTED = Message("IST0102", "NamespaceNotInjected", _I, "a namespace does not say whether it injects")
POD_MISSING_PROXY = Message("IST0103", "PodMissingProxy", _W, "a pod that should have a proxy has none")
SCHEMA_ERROR = Message("IST0106", "SchemaValidationError", _E, "an object is refused")
MISPLACED_ANNOTATION = Message("IST0107", "MisplacedAnnotation", _W, "an annotation is on the wrong kind of object")
UNKNOWN_ANNOTATION = Message("IST0108", "UnknownAnnotation", _W, "an annotation of Istio's does not exist")
CONFLICTING_HOSTS = Message(
    "IST0109", "ConflictingMeshGatewayVirtualServiceHosts", _E, "two VirtualServices route one host for the mesh"
)
CONFLICTING_SIDECARS = Message("IST0110", "ConflictingSidecarWorkloadSelectors", _E, "two Sidecars select one workload")
SEVERAL_SIDECARS = Message(
    "IST0111", "MultipleSidecarsWithoutWorkloadSelectors", _E, "two Sidecars are for one whole namespace"
)
PORT_REQUIRED = Message(
    "IST0112", "VirtualServiceDestinationPortSelectorRequired", _E, "a destination does not say which of several ports"
)
MTLS_CONFLICT = Message("IST0113", "MTLSPolicyConflict", _E, "client and server disagree on mutual TLS")
MULTIPLE_SERVICES = Message(
    "IST0116", "DeploymentAssociatedToMultipleServices", _W, "services give one port several protocols"
)
PORT_NAME = Message("IST0118", "PortNameIsNotUnderNamingConvention", _I, "the protocol of a port has to be guessed")
JWT_PORT = Message(
    "IST0119", "JwtFailureDueToInvalidServicePortPrefix", _W, "tokens are asked for on a port without HTTP"
)
INVALID_REGEX = Message("IST0122", "InvalidRegexp", _W, "a regular expression is not one of RE2's")
SEVERAL_INJECTION_LABELS = Message(
    "IST0123", "NamespaceMultipleInjectionLabels", _W, "labels of a namespace contradict each other"
)
INVALID_ANNOTATION = Message("IST0125", "InvalidAnnotation", _W, "the value of an annotation cannot be understood")
NO_WORKLOADS = Message("IST0127", "NoMatchingWorkloadsFound", _W, "a policy selects no workload")
UNVERIFIED = Message(
    "IST0128", "NoServerCertificateVerificationDestinationLevel", _W, "a server's certificate is not verified"
)
UNVERIFIED_PORT = Message(
    "IST0129", "NoServerCertificateVerificationPortLevel", _W, "a server's certificate is not verified on a port"
)
UNREACHABLE = Message("IST0130", "VirtualServiceUnreachableRule", _W, "no request reaches a rule")
INEFFECTIVE_MATCH = Message("IST0131", "VirtualServiceIneffectiveMatch", _I, "an earlier rule has the same match")
HOST_NOT_IN_GATEWAY = Message("IST0132", "VirtualServiceHostNotFoundInGateway", _W, "a gateway does not have the host")
SCHEMA_WARNING = Message("IST0133", "SchemaWarning", _W, "an object is accepted with a warning")
ADDRESSES_REQUIRED = Message("IST0134", "ServiceEntryAddressesRequired", _W, "TCP needs addresses to be told apart")
DEPRECATED_ANNOTATION = Message("IST0135", "DeprecatedAnnotation", _I, "an annotation is deprecated")
ALPHA_ANNOTATION = Message("IST0136", "AlphaAnnotation", _I, "an annotation may change its meaning")
CONFLICTING_PORTS = Message("IST0137", "DeploymentConflictingPorts", _W, "services lead several ports to one")
DUPLICATE_CERTIFICATE = Message("IST0138", "GatewayDuplicateCertificate", _W, "gateways share one certificate")
INGRESS_RULES = Message("IST0140", "IngressRouteRulesNotAffected", _W, "rules for the mesh do not hold at the gateway")
APPLICATION_UID = Message("IST0144", "InvalidApplicationUID", _W, "an application runs as the proxy's user")
CONFLICTING_GATEWAYS = Message("IST0145", "ConflictingGateways", _E, "two Gateways serve one host on one port")
IMAGE_AUTO_WARNING = Message("IST0146", "ImageAutoWithoutInjectionWarning", _W, "a gateway's template is not injected")
IMAGE_AUTO_ERROR = Message("IST0147", "ImageAutoWithoutInjectionError", _E, "a gateway's pod is not injected")
JWT_CLAIMS = Message(
    "IST0149", "JwtClaimBasedRoutingWithoutRequestAuthN", _E, "rules look at claims that nobody has verified"
)
EXTERNAL_NAME_PORT = Message(
    "IST0150", "ExternalNameServiceTypeInvalidPortName", _W, "an ExternalName's port does not name a protocol"
)
TELEMETRY_PROVIDER = Message("IST0157", "InvalidTelemetryProvider", _W, "a Telemetry names no provider")
CONFLICTING_TELEMETRIES = Message(
    "IST0159", "ConflictingTelemetryWorkloadSelectors", _E, "two Telemetries select one workload"
)
SEVERAL_TELEMETRIES = Message(
    "IST0160", "MultipleTelemetriesWithoutWorkloadSelectors", _E, "two Telemetries are for one whole namespace"
)
INVALID_CREDENTIAL = Message("IST0161", "InvalidGatewayCredential", _E, "a gateway's certificate cannot be used")
GATEWAY_PORT = Message("IST0162", "GatewayPortNotDefinedOnService", _W, "no Service leads to a gateway's port")
UNKNOWN_HOST = Message("IST0172", "UnknownDestinationRuleHost", _W, "no service has a DestinationRule's host")
EMPTY_SUBSET = Message("IST0173", "DestinationRuleSubsetNotSelectPods", _E, "a subset has no workload")

BY_CODE = {message.code: message for message in tuple(globals().values()) if isinstance(message, Message)}
"""All messages by their codes, in order."""
