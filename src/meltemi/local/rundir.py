"""Where the files of a pod lie while it runs, and what stands in its `/etc`.

Under the runtime directory, which is in memory and private to the sandbox: the pod's `/etc` files, its volumes and its
sidecar's files. Under the log directory: what its containers printed. Both are named `<namespace>_<name>_<uid>`.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path

import msgspec

from meltemi.api.core import Pod
from meltemi.local.capture import reaches_given_addresses
from meltemi.local.mounts import Mount


class DnsSettings(msgspec.Struct, frozen=True):
    """How pods resolve names: the servers' addresses and the cluster's domain.

    `captured_server` is for pods whose sidecar takes connections to the addresses that the mesh gives hosts.
    """

    server: str = "10.96.0.10"
    captured_server: str = "10.96.0.11"
    domain: str = "cluster.local"


class PodDirectories:
    """The directories of one pod."""

    def __init__(self, pod: Pod, runtime: Path, logs: Path) -> None:
        name = f"{pod.metadata.namespace}_{pod.metadata.name}_{pod.metadata.uid}"
        self.root = runtime / name
        self.logs = logs / name
        self.etc = self.root / "etc"
        self.stage = self.root / "stage"
        self.volumes = self.root / "volumes"
        self.sidecar = self.root / "sidecar"

    def __repr__(self) -> str:
        return f"<PodDirectories {self.root}>"

    def create(self) -> None:
        """Makes the directories, empty."""
        self.remove()
        for directory in (self.etc, self.stage, self.volumes, self.sidecar, self.logs):
            directory.mkdir(parents=True)

    def remove(self) -> None:
        """Removes them and all that is in them."""
        for directory in (self.root, self.logs):
            shutil.rmtree(directory, ignore_errors=True)

    def write_etc(self, pod: Pod, address: IPv4Address, dns: DnsSettings) -> tuple[Mount, ...]:
        """Writes the pod's `/etc` files; where they are to be seen."""
        texts = {
            "hostname": f"{host_name(pod)}\n",
            "hosts": hosts_file(pod, address, dns.domain),
            "resolv.conf": resolv_conf(pod, dns),
        }
        for name, text in texts.items():
            (self.etc / name).write_text(text)
        return tuple(Mount(str(self.etc / name), f"/etc/{name}") for name in texts)


def host_name(pod: Pod) -> str:
    """The pod's host name: what it asks for or its own, at most 63 characters."""
    return (pod.spec.hostname or pod.metadata.name)[:63].rstrip("-.")


def hosts_file(pod: Pod, address: IPv4Address, domain: str) -> str:
    """The pod's `/etc/hosts`."""
    name = host_name(pod)
    names = [name]
    if pod.spec.subdomain:
        names.insert(0, f"{name}.{pod.spec.subdomain}.{pod.metadata.namespace}.svc.{domain}")
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback", f"{address}\t{' '.join(names)}"]
    lines += [f"{alias.ip}\t{' '.join(alias.hostnames)}" for alias in pod.spec.host_aliases]
    return "\n".join(lines) + "\n"


class Resolution(msgspec.Struct, frozen=True):
    """How one pod resolves names: whom it asks, what it tries behind a name, and options of `resolv.conf`."""

    servers: tuple[str, ...]
    searches: tuple[str, ...]
    options: tuple[str, ...]


def resolv_conf(pod: Pod, dns: DnsSettings) -> str:
    """The pod's `/etc/resolv.conf`."""
    found = resolution(pod, dns)
    lines = [f"nameserver {server}" for server in found.servers]
    if found.searches:
        lines.append(f"search {' '.join(found.searches)}")
    return "\n".join([*lines, f"options {' '.join(found.options)}"]) + "\n"


def resolution(pod: Pod, dns: DnsSettings) -> Resolution:
    """How a pod resolves names: as the cluster does, as its DNS policy and configuration amend it."""
    servers: list[str] = []
    searches: list[str] = []
    options = ["ndots:5"]
    if pod.spec.dns_policy != "None":
        servers = [dns.captured_server if reaches_given_addresses(pod) else dns.server]
        searches = [f"{pod.metadata.namespace}.svc.{dns.domain}", f"svc.{dns.domain}", dns.domain]
    if pod.spec.dns_config:
        config = pod.spec.dns_config
        servers = _united(servers, config.nameservers)
        searches = _united(searches, config.searches)
        given = {
            option.name: f"{option.name}:{option.value}" if option.value else option.name for option in config.options
        }
        options = [option for option in options if option.partition(":")[0] not in given] + list(given.values())
    return Resolution(tuple(servers), tuple(searches), tuple(options))


def _united(first: Sequence[str], second: Sequence[str]) -> list[str]:
    return list(dict.fromkeys((*first, *second)))
