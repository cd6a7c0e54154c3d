"""The mesh at a glance: what `meltemi status` tells, made of what the API and the control plane say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from meltemi.cli.meshapi import MeshProblem, ProxyState, Version
from meltemi.cli.printing import plural
from meltemi.kube.resources import Obj

_SHOWN = 5


class Workload(msgspec.Struct, frozen=True):
    """A Deployment: its name, and how many of its replicas are ready."""

    name: str
    ready: int
    wanted: int

    @property
    def is_ready(self) -> bool:
        """Whether all are."""
        return self.ready >= self.wanted


class Gateway(msgspec.Struct, frozen=True):
    """A service that is reached from outside, and where."""

    name: str
    addresses: tuple[str, ...]


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a mesh. `version` is None, and `reason` says why, where the control plane does not answer."""

    mesh: str
    version: Version | None
    reason: str = ""
    proxies: tuple[ProxyState, ...] = ()
    workloads: tuple[Workload, ...] = ()
    gateways: tuple[Gateway, ...] = ()
    problems: tuple[MeshProblem, ...] = ()

    @property
    def late(self) -> list[ProxyState]:
        """The proxies that are not in sync."""
        return [proxy for proxy in self.proxies if not proxy.in_sync]

    @property
    def is_well(self) -> bool:
        """Whether everything runs, is in sync, and nothing has an error."""
        return (
            self.version is not None
            and not self.late
            and all(workload.is_ready for workload in self.workloads)
            and not any(problem.is_error for problem in self.problems)
        )


def lines(overview: Overview) -> Iterator[tuple[str, str]]:
    """Label and text of each line."""
    version = overview.version
    yield "mesh", overview.mesh
    if version is None:
        yield "control plane", f"does not answer: {overview.reason}"
    else:
        yield "control plane", f"version {version.version}, revision {version.revision}"
        yield "proxies", _proxies(overview)
    yield "workloads", _workloads(overview.workloads)
    for index, gateway in enumerate(overview.gateways):
        label = "gateways" if index == 0 else ""
        yield label, f"{gateway.name}: {', '.join(gateway.addresses) or 'no address yet'}"
    if version is not None:
        yield "problems", _problems(overview.problems)


def _proxies(overview: Overview) -> str:
    total, late = len(overview.proxies), overview.late
    if not total:
        return "none connected"
    text = f"{total - len(late)} of {total} in sync"
    return f"{text}; not: {_some([proxy.id for proxy in late])}" if late else text


def _workloads(workloads: Sequence[Workload]) -> str:
    late = [workload for workload in workloads if not workload.is_ready]
    text = f"{len(workloads) - len(late)} of {len(workloads)} ready" if workloads else "none"
    return f"{text}; not: {_some([f'{each.name} ({each.ready}/{each.wanted})' for each in late])}" if late else text


def _problems(problems: Sequence[MeshProblem]) -> str:
    counts = []
    for severity, word in (("Error", "error"), ("Warning", "warning"), ("Info", "remark")):
        number = sum(problem.severity == severity for problem in problems)
        counts += [plural(number, word)] if number else []
    return ", ".join(counts) or "none"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def workloads_of(deployments: Iterable[Obj]) -> tuple[Workload, ...]:
    """The workloads of Deployments."""
    return tuple(
        Workload(
            _name(deployment),
            int((deployment.get("status") or {}).get("readyReplicas") or 0),
            int((deployment.get("spec") or {}).get("replicas", 1)),
        )
        for deployment in deployments
    )


def gateways_of(services: Iterable[Obj]) -> tuple[Gateway, ...]:
    """The services of type LoadBalancer, with the addresses and ports at which they are reached."""
    return tuple(
        Gateway(_name(service), tuple(_addresses(service)))
        for service in services
        if (service.get("spec") or {}).get("type") == "LoadBalancer"
    )


def _addresses(service: Obj) -> Iterator[str]:
    """`http://127.0.0.1:8080`, for each address and port."""
    ports: list[dict[str, Any]] = (service.get("spec") or {}).get("ports") or []
    status = service.get("status") or {}
    for entry in (status.get("loadBalancer") or {}).get("ingress") or ():
        host = entry.get("ip") or entry.get("hostname") or ""
        given = entry.get("ports") or ()
        for index, port in enumerate(ports):
            number = given[index].get("port") if index < len(given) else port.get("port")
            yield f"{_scheme(port)}{f'[{host}]' if ':' in host else host}:{number}"


def _scheme(port: dict[str, Any]) -> str:
    name = str(port.get("appProtocol") or port.get("name") or "").partition("-")[0]
    return {"http": "http://", "http2": "http://", "https": "https://", "grpc": "grpc://"}.get(name, "")


def _name(obj: Obj) -> str:
    return f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"
