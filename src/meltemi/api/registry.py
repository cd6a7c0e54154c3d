"""Every kind that users write, in one list: decoding, discovery, CRDs and the command line all look here.

A kind's versions share one schema, so that an object may be read and written in any of them; the first is the one
that is stored and preferred.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from meltemi.api import core, networking, security, telemetry
from meltemi.api.mesh import MeshConfig
from meltemi.api.meta import MeshResource, Resource

NETWORKING = "networking.istio.io"
SECURITY = "security.istio.io"
TELEMETRY = "telemetry.istio.io"
MELTEMI = "meltemi.dev"

_NETWORKING_VERSIONS = ("v1", "v1beta1", "v1alpha3")


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of object: how the API calls it, and the struct that holds one."""

    struct: type[Resource]
    plural: str
    group: str = ""
    versions: tuple[str, ...] = ("v1",)
    short_names: tuple[str, ...] = ()
    namespaced: bool = True
    status: bool = False

    @property
    def kind(self) -> str:
        """The kind's name, as written in manifests."""
        return self.struct.__name__

    @property
    def singular(self) -> str:
        """The name of one such object in commands."""
        return self.kind.lower()

    @property
    def mesh(self) -> bool:
        """Whether it is a kind of the mesh, not one of Kubernetes' own. Unknown fields of mesh kinds are refused."""
        return issubclass(self.struct, MeshResource)

    @property
    def api_versions(self) -> tuple[str, ...]:
        """`v1` or `group/version`, for each version served."""
        return tuple(f"{self.group}/{version}" if self.group else version for version in self.versions)

    @property
    def api_version(self) -> str:
        """The preferred one of `api_versions`."""
        return self.api_versions[0]

    @property
    def full_name(self) -> str:
        """`plural.group`, the name of the CRD; the plural alone for the core group."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


KINDS: tuple[Kind, ...] = (
    # Kubernetes' own
    Kind(struct=core.Namespace, plural="namespaces", short_names=("ns",), namespaced=False, status=True),
    Kind(struct=core.Pod, plural="pods", short_names=("po",), status=True),
    Kind(struct=core.Service, plural="services", short_names=("svc",), status=True),
    Kind(struct=core.ServiceAccount, plural="serviceaccounts", short_names=("sa",)),
    Kind(struct=core.ConfigMap, plural="configmaps", short_names=("cm",)),
    Kind(struct=core.Secret, plural="secrets"),
    Kind(struct=core.Event, plural="events", short_names=("ev",)),
    Kind(struct=core.Deployment, plural="deployments", group="apps", short_names=("deploy",), status=True),
    Kind(struct=core.ReplicaSet, plural="replicasets", group="apps", short_names=("rs",), status=True),
    Kind(struct=core.EndpointSlice, plural="endpointslices", group="discovery.k8s.io"),
    Kind(struct=core.Lease, plural="leases", group="coordination.k8s.io"),
    # Traffic
    Kind(
        struct=networking.VirtualService,
        plural="virtualservices",
        group=NETWORKING,
        versions=_NETWORKING_VERSIONS,
        short_names=("vs",),
        status=True,
    ),
    Kind(
        struct=networking.DestinationRule,
        plural="destinationrules",
        group=NETWORKING,
        versions=_NETWORKING_VERSIONS,
        short_names=("dr",),
        status=True,
    ),
    Kind(
        struct=networking.Gateway,
        plural="gateways",
        group=NETWORKING,
        versions=_NETWORKING_VERSIONS,
        short_names=("gw",),
        status=True,
    ),
    Kind(
        struct=networking.ServiceEntry,
        plural="serviceentries",
        group=NETWORKING,
        versions=_NETWORKING_VERSIONS,
        short_names=("se",),
        status=True,
    ),
    Kind(
        struct=networking.WorkloadEntry,
        plural="workloadentries",
        group=NETWORKING,
        versions=_NETWORKING_VERSIONS,
        short_names=("we",),
        status=True,
    ),
    Kind(
        struct=networking.Sidecar,
        plural="sidecars",
        group=NETWORKING,
        versions=_NETWORKING_VERSIONS,
        status=True,
    ),
    Kind(struct=networking.EnvoyFilter, plural="envoyfilters", group=NETWORKING, versions=("v1alpha3",), status=True),
    Kind(struct=networking.ProxyConfig, plural="proxyconfigs", group=NETWORKING, versions=("v1beta1",), status=True),
    # Security
    Kind(
        struct=security.PeerAuthentication,
        plural="peerauthentications",
        group=SECURITY,
        versions=("v1", "v1beta1"),
        short_names=("pa",),
        status=True,
    ),
    Kind(
        struct=security.AuthorizationPolicy,
        plural="authorizationpolicies",
        group=SECURITY,
        versions=("v1", "v1beta1"),
        short_names=("ap",),
        status=True,
    ),
    Kind(
        struct=security.RequestAuthentication,
        plural="requestauthentications",
        group=SECURITY,
        versions=("v1", "v1beta1"),
        short_names=("ra",),
        status=True,
    ),
    # Telemetry
    Kind(
        struct=telemetry.Telemetry,
        plural="telemetries",
        group=TELEMETRY,
        versions=("v1", "v1alpha1"),
        short_names=("telemetry",),
        status=True,
    ),
    # The mesh itself
    Kind(
        struct=MeshConfig,
        plural="meshconfigs",
        group=MELTEMI,
        versions=("v1alpha1",),
        short_names=("mc",),
        namespaced=False,
        status=True,
    ),
)

_BY_TYPE = {(api_version, kind.kind): kind for kind in KINDS for api_version in kind.api_versions}
_BY_STRUCT = {kind.struct: kind for kind in KINDS}


def find(api_version: str, kind: str) -> Kind | None:
    """The kind that an object's `apiVersion` and `kind` name."""
    return _BY_TYPE.get((api_version, kind))


def kind_of(struct: type[Resource]) -> Kind:
    """The kind whose objects the struct holds."""
    return _BY_STRUCT[struct]


def kinds_called(name: str) -> Iterator[Kind]:
    """The kinds that a user may mean by `vs`, `virtualservice`, `VirtualServices`, `gateways.networking.istio.io` ..."""
    wanted = name.lower()
    for kind in KINDS:
        names = (kind.plural, kind.singular, kind.full_name, *kind.short_names)
        if wanted in names or wanted == f"{kind.singular}.{kind.group}":
            yield kind
