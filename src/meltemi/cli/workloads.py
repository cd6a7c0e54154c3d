"""WORKLOAD on the command line: a pod, `deploy/NAME` (and other kinds that have pods), or labels such as `app=reviews`.

Where no namespace was named and the workload is not in the usual one, it is looked for in all of them; if it is in exactly
one, that is the one that is meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from meltemi.cli.failures import USAGE, Failure, did_you_mean
from meltemi.kube.resources import PODS, Obj

if TYPE_CHECKING:
    from meltemi.cli.session import Api

SIDECAR = "istio-proxy"
"""The container that Envoy runs in."""

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


class Wanted(NamedTuple):
    """A workload as the user named it: a pod's name, a kind and a name, or labels; a namespace if it was in the name."""

    text: str
    kind: str = ""
    name: str = ""
    labels: str = ""


def parse(text: str) -> Wanted:
    """What the user means. Raises Failure for an empty name."""
    if "/" in text:
        kind, _, name = text.partition("/")
        if not kind or not name:
            raise Failure(f"{text!r} is not a workload", "write a pod's name, deploy/NAME or app=NAME", USAGE)
        return Wanted(text, "" if kind.lower() in ("pod", "pods", "po") else kind, name)
    if "=" in text:
        return Wanted(text, labels=text)
    if not text:
        raise Failure("no workload was named", "write a pod's name, deploy/NAME or app=NAME", USAGE)
    return Wanted(text, name=text)


def selector_of(obj: Obj) -> str:
    """The label selector of a Deployment, ReplicaSet or Service, as text."""
    selector = (obj.get("spec") or {}).get("selector") or {}
    labels: Mapping[str, Any] = selector.get("matchLabels", selector) if isinstance(selector, dict) else {}
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()) if isinstance(value, str))


def is_ready(pod: Obj) -> bool:
    """Whether a pod is ready to serve."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)


def best_first(pods: list[Obj]) -> list[Obj]:
    """Ready pods first, then by name; those that are going away last."""
    return sorted(
        pods,
        key=lambda pod: (
            "deletionTimestamp" in pod["metadata"],
            not is_ready(pod),
            pod["metadata"]["namespace"],
            pod["metadata"]["name"],
        ),
    )


def proxy_id(pod: Obj) -> str:
    """The id of a pod's proxy: `<pod>.<namespace>`."""
    metadata = pod["metadata"]
    return f"{metadata['name']}.{metadata['namespace']}"


def containers_of(pod: Obj) -> list[str]:
    """The names of a pod's containers that go on running: sidecars among the init containers included.

    On one machine the proxy stands in the status only: it is put beside the pod when it runs.
    """
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    sidecars = [each["name"] for each in spec.get("initContainers") or () if each.get("restartPolicy") == "Always"]
    running = [each["name"] for each in status.get("containerStatuses") or ()]
    return list(dict.fromkeys([*(each["name"] for each in spec.get("containers") or ()), *sidecars, *running]))


def container_of(pod: Obj, wanted: str = "") -> str:
    """The container that is meant: the one named, else the pod's default one, else its first that is not the proxy.

    Raises Failure if the pod has no container of that name.
    """
    names = containers_of(pod)
    initial = [each["name"] for each in (pod.get("spec") or {}).get("initContainers") or ()]
    if wanted:
        known = [*names, *initial]
        if wanted not in known:
            hint = did_you_mean(wanted, known, f"it has {', '.join(names)}")
            raise Failure(f"the pod {pod['metadata']['name']} has no container {wanted!r}", hint, USAGE)
        return wanted
    default = (pod["metadata"].get("annotations") or {}).get(DEFAULT_CONTAINER, "")
    if default in names:
        return str(default)
    return next((name for name in names if name != SIDECAR), names[0] if names else "")


async def pods_of(api: Api, text: str) -> list[Obj]:
    """The pods of a workload, the best first. Raises Failure if there are none."""
    wanted = parse(text)
    found = await _find(api, wanted, api.scope)
    if not found and not api.namespace_given and not api.all_namespaces:
        found = await _find(api, wanted, "")
        namespaces = sorted({pod["metadata"]["namespace"] for pod in found})
        if len(namespaces) > 1:
            raise Failure(f"{text} is in several namespaces: {', '.join(namespaces)}", "choose one with -n", USAGE)
    if found:
        return best_first(found)
    raise await _missing(api, wanted)


async def _find(api: Api, wanted: Wanted, namespace: str) -> list[Obj]:
    if wanted.labels:
        return (await api.client.list(PODS, namespace, labels=wanted.labels)).items
    if not wanted.kind:
        found = (await api.client.list(PODS, namespace, fields=f"metadata.name={wanted.name}")).items
        name, dot, rest = wanted.name.rpartition(".")
        if not found and dot:
            return (await api.client.list(PODS, rest, fields=f"metadata.name={name}")).items
        return found
    kind = (await api.kinds()).called(wanted.kind)
    owners = (await api.client.list(kind.resource, namespace, fields=f"metadata.name={wanted.name}")).items
    pods: list[Obj] = []
    for owner in owners:
        labels = selector_of(owner)
        if not labels:
            raise Failure(f"{wanted.text} selects no pods", "name a pod, or deploy/NAME", USAGE)
        pods += (await api.client.list(PODS, owner["metadata"]["namespace"], labels=labels)).items
    return pods


async def _missing(api: Api, wanted: Wanted) -> Failure:
    """Why there are no pods of a workload."""
    place = "in any namespace" if api.all_namespaces or not api.namespace_given else f"in the namespace {api.namespace}"
    if wanted.labels:
        return Failure(f"there are no pods with {wanted.labels} {place}", "`meltemi get pods -A` lists them all")
    scope = api.namespace if api.namespace_given else ""
    if not wanted.kind:
        known = [pod["metadata"]["name"] for pod in (await api.client.list(PODS, scope)).items]
        hint = did_you_mean(wanted.name, known, "`meltemi get pods -A` lists them all; deploy/NAME names a Deployment")
        return Failure(f"there is no pod {wanted.name!r} {place}", hint)
    kind = (await api.kinds()).called(wanted.kind)
    known = [obj["metadata"]["name"] for obj in (await api.client.list(kind.resource, scope)).items]
    if wanted.name in known:
        return Failure(f"{wanted.text} has no pods", f"`meltemi describe {wanted.text}` tells why".replace("/", " "))
    hint = did_you_mean(wanted.name, known, f"`meltemi get {kind.resource.plural} -A` lists them all")
    return Failure(f"there is no {kind.singular or kind.resource.kind} {wanted.name!r} {place}", hint)
