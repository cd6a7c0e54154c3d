"""Host names as the mesh understands them: fully qualified names, short names, and wildcards with one leading `*`."""

from __future__ import annotations

import ipaddress


def qualify(host: str, namespace: str, domain: str = "cluster.local") -> str:
    """The fully qualified name of a host that a resource of `namespace` mentions.

    Istio reads a name without a dot as a service of the resource's own namespace; anything else is taken as it is.
    """
    if not host or "." in host or "*" in host or is_address(host):
        return host
    return f"{host}.{namespace}.svc.{domain}"


def is_address(host: str) -> bool:
    """Whether the text is an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_wildcard(host: str) -> bool:
    """Whether the host stands for many: `*` or `*.example.org`."""
    return host.startswith("*")


def matches(pattern: str, host: str) -> bool:
    """Whether `pattern` covers every name that `host` stands for (either may be a wildcard)."""
    if pattern == "*":
        return True
    if is_wildcard(pattern):
        suffix = pattern[1:]
        return host.lstrip("*").endswith(suffix) if is_wildcard(host) else host.endswith(suffix) and host != suffix
    return pattern == host


def overlaps(one: str, other: str) -> bool:
    """Whether some name is covered by both."""
    return matches(one, other) or matches(other, one)


def specificity(host: str) -> tuple[int, int, str]:
    """A sort key that puts the most specific host first: exact names, then the longer wildcard, then by name."""
    return (1 if is_wildcard(host) else 0, -len(host), host)
