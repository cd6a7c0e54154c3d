"""What is served, told to clients: `/api`, `/apis` and below, in the plain and in the aggregated form (v2).

Source: Kubernetes API discovery (`meta/v1` APIGroupList, APIResourceList; `apidiscovery.k8s.io/v2`).
"""

from __future__ import annotations

from meltemi.kube.resources import Obj
from meltemi.local.apiserver.catalogue import Catalogue, Kind

AGGREGATED_V2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
AGGREGATED_V2BETA1 = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"

VERSION: Obj = {
    "major": "1",
    "minor": "32",
    "gitVersion": "v1.32.0+meltemi",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "",
    "goVersion": "",
    "compiler": "python",
    "platform": "linux/amd64",
}


def api_versions() -> Obj:
    """`/api`."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def api_groups(catalogue: Catalogue) -> Obj:
    """`/apis`."""
    groups = [api_group(catalogue, group) for group in catalogue.groups() if group]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def api_group(catalogue: Catalogue, group: str) -> Obj:
    """`/apis/<group>`. Raises KeyError if there is no such group."""
    versions = [{"groupVersion": f"{group}/{version}", "version": version} for version in catalogue.groups()[group]]
    return {
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": group,
        "versions": versions,
        "preferredVersion": versions[0],
    }


def api_resources(catalogue: Catalogue, group: str, version: str) -> Obj:
    """`/api/v1` or `/apis/<group>/<version>`. Raises KeyError if there is no such version."""
    if version not in catalogue.groups()[group]:
        raise KeyError(version)
    resources = []
    for kind in catalogue.all:
        if kind.group == group and version in kind.versions:
            resources.append(_resource(kind))
            resources += [_subresource(kind, name) for name in kind.subresources]
    group_version = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}


def aggregated(catalogue: Catalogue, *, core: bool, version: str = "v2") -> Obj:
    """All of the core group, or all other groups, in one document (KEP-3352)."""
    items = []
    for group, versions in catalogue.groups().items():
        if (group == "") == core:
            served = [
                {
                    "version": served_version,
                    "freshness": "Current",
                    "resources": [
                        _aggregated_resource(kind, served_version)
                        for kind in catalogue.all
                        if kind.group == group and served_version in kind.versions
                    ],
                }
                for served_version in versions
            ]
            items.append({"metadata": {"name": group, "creationTimestamp": None}, "versions": served})
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": items,
    }


def _resource(kind: Kind) -> Obj:
    return {
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": list(kind.verbs),
        **({"shortNames": list(kind.short_names)} if kind.short_names else {}),
        **({"categories": list(kind.categories)} if kind.categories else {}),
    }


_SUBRESOURCE_KINDS = {
    "scale": ("autoscaling", "v1", "Scale"),
    "token": ("authentication.k8s.io", "v1", "TokenRequest"),
    "binding": ("", "v1", "Binding"),
    "exec": ("", "v1", "PodExecOptions"),
    "log": ("", "v1", "Pod"),
}
_SUBRESOURCE_VERBS = {
    "token": ["create"],
    "binding": ["create"],
    "exec": ["create", "get"],
    "log": ["get"],
    "finalize": ["update"],
}


def _subresource(kind: Kind, name: str) -> Obj:
    group, version, response = _SUBRESOURCE_KINDS.get(name, ("", "", kind.kind))
    return {
        "name": f"{kind.plural}/{name}",
        "singularName": "",
        "namespaced": kind.namespaced,
        "kind": response,
        **({"group": group, "version": version} if group else {}),
        "verbs": _SUBRESOURCE_VERBS.get(name, ["get", "patch", "update"]),
    }


def _aggregated_resource(kind: Kind, version: str) -> Obj:
    return {
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": version, "kind": kind.kind},
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": list(kind.verbs),
        **({"shortNames": list(kind.short_names)} if kind.short_names else {}),
        **({"categories": list(kind.categories)} if kind.categories else {}),
        "subresources": [_aggregated_subresource(kind, version, name) for name in kind.subresources],
    }


def _aggregated_subresource(kind: Kind, version: str, name: str) -> Obj:
    group, response_version, response = _SUBRESOURCE_KINDS.get(name, (kind.group, version, kind.kind))
    return {
        "subresource": name,
        "responseKind": {"group": group, "version": response_version, "kind": response},
        "verbs": _SUBRESOURCE_VERBS.get(name, ["get", "patch", "update"]),
    }
