"""Checks of single values: hosts, names, headers, addresses, durations. Each yields at most one fault for a path.

Sources: RFC 1123 for names, RFC 9110 for header names, Istio's `pkg/config/validation` for what it accepts beyond.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from datetime import timedelta

from meltemi.api import paths
from meltemi.api.faults import Fault, Faults, warning
from meltemi.base.durations import parse_duration
from meltemi.base.hosts import is_address

_LABEL = r"[A-Za-z0-9]([-A-Za-z0-9_]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*\.?")
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_HEADER = re.compile(r"[-A-Za-z0-9!#$%&'*+.^_`|~]+")
_LABEL_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_MILLISECOND = timedelta(milliseconds=1)
_ZERO = timedelta()

PROTOCOLS = frozenset(
    {
        "http",
        "http2",
        "http_proxy",
        "grpc",
        "grpc-web",
        "https",
        "tls",
        "tcp",
        "udp",
        "mongo",
        "redis",
        "mysql",
        "hbone",
        "double-hbone",
    }
)
"""The protocols that a port may declare, in lower case."""


def host(path: str, value: str, *, wildcard: bool = True, address: bool = False) -> Faults:
    """A DNS name; with `wildcard` also `*` and `*.example.org`, with `address` also an IP address."""
    if not value:
        yield Fault(path, "the host is empty", "write a DNS name", "InvalidHost")
    elif value == "*":
        if not wildcard:
            yield Fault(path, "'*' is not a host here", "write a DNS name", "InvalidHost")
    elif (":" in value or value[-1].isdigit()) and is_address(value):
        if not address:
            yield Fault(path, f"{value!r} is an IP address, not a host", "write a DNS name", "InvalidHost")
    elif len(value) > 255 or not _HOST.fullmatch(value):
        hint = "a wildcard is one '*' that stands for the first labels" if "*" in value else ""
        if ":" in value or "/" in value:
            hint = "write the host alone, without scheme, port or path"
        yield Fault(path, f"{value!r} is not a host name", hint or "write a DNS name", "InvalidHost")
    elif value.startswith("*") and not wildcard:
        yield Fault(path, f"{value!r} is a wildcard, which is not allowed here", "write a DNS name", "InvalidHost")


def dns_label(path: str, value: str, what: str) -> Faults:
    """A name of one label, such as a namespace."""
    if not _DNS_LABEL.fullmatch(value):
        yield Fault(
            path,
            f"{value!r} is not {what}",
            "use lower-case letters, digits and '-', with a letter or digit at both ends",
        )


def header_name(path: str, value: str) -> Faults:
    """The name of an HTTP header (RFC 9110), or a pseudo header such as `:authority`."""
    if not value:
        yield Fault(path, "the header's name is empty", "write a header name")
    elif not _HEADER.fullmatch(value.removeprefix(":")):
        yield Fault(path, f"{value!r} is not a header name", "use letters, digits and '-'")


def labels(path: str, values: Mapping[str, str]) -> Faults:
    """Labels that a selector asks for."""
    for name, value in values.items():
        where = paths.key(path, name)
        prefix, _, short = name.rpartition("/")
        if not _LABEL_NAME.fullmatch(short) or (prefix and not _HOST.fullmatch(prefix)):
            yield Fault(where, f"{name!r} is not the name of a label", "write it as name or example.org/name")
        elif not _LABEL_VALUE.fullmatch(value):
            hint = "a selector compares whole values: wildcards are not allowed" if "*" in value else ""
            yield Fault(
                where, f"{value!r} is not the value of a label", hint or "use letters, digits, '-', '_' and '.'"
            )


def selector(path: str, values: Mapping[str, str]) -> Faults:
    """Labels by which workloads are selected: an object that says it selects should say which."""
    if not values:
        yield warning(path, "the selector has no labels, so that it selects everything", "add labels, or remove it")
    yield from labels(path, values)


def header_value(path: str, value: str) -> Faults:
    """The value of a header that is written: no control characters, and `%` only in pairs, around one of Envoy's variables."""
    if _CONTROL.search(value):
        yield Fault(path, "the value has a control character", "remove it")
    elif value.replace("%%", "").count("%") % 2:
        yield Fault(path, f"a '%' in {value!r} is not closed", "write %VARIABLE%, or %% for the sign itself")


def subnets(path: str, values: Iterable[str]) -> Faults:
    """IP addresses or ranges such as `10.0.0.0/8`."""
    for index, value in enumerate(values):
        yield from subnet(paths.item(path, index), value)


def subnet(path: str, value: str) -> Faults:
    """An IP address or a range."""
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        yield Fault(
            path, f"{value!r} is not an IP address or range", "write it as 10.1.2.3 or 10.0.0.0/8", "InvalidAddress"
        )


def positive(path: str, value: str | None, *, zero: bool = False) -> Faults:
    """A duration of a millisecond or more; with `zero` also none, which switches off. Its notation is known to be right."""
    if value is None:
        return
    duration = parse_duration(value)
    if duration < _MILLISECOND and not (zero and duration == _ZERO):
        limit = "0s to switch it off, or " if zero else ""
        yield Fault(path, f"{value} is too short", f"write {limit}1ms or more", "OutOfRange")


def not_negative(path: str, value: int) -> Faults:
    """A number of 0 or more."""
    if value < 0:
        yield Fault(path, f"{value} is negative", "write 0 or more", "OutOfRange")


def port(path: str, value: int) -> Faults:
    """A port number."""
    if not 1 <= value <= 65535:
        yield Fault(path, f"{value} is not a port number", "write a number from 1 to 65535", "OutOfRange")


def protocol(path: str, value: str) -> Faults:
    """A protocol that a port declares."""
    if value.lower() not in PROTOCOLS:
        names = ", ".join(sorted(name.upper() for name in PROTOCOLS))
        yield Fault(path, f"{value!r} is not a protocol", f"write one of {names}", "UnknownProtocol")


def export_to(path: str, values: tuple[str, ...], namespace: str, *, nobody: bool = False) -> Faults:
    """Namespaces to which an object of `namespace` is shown: names, `.`, `*`, and with `nobody` also `~`."""
    for index, value in enumerate(values):
        where = paths.item(path, index)
        if value == "~" and not nobody:
            yield Fault(where, "only a ServiceEntry can be shown to nobody", "write '.' for its own namespace")
        elif value not in (".", "*", "~"):
            yield from dns_label(where, value, "a namespace, '.' or '*'")
        elif value in ("*", "~") and len(values) > 1:
            yield Fault(where, f"{value!r} leaves nothing for the others to say", f"write {value!r} alone")
    yield from duplicates(path, [namespace if value == "." else value for value in values], "namespace")


def duplicates(path: str, values: Iterable[str], what: str) -> Faults:
    """Values that stand in a list twice."""
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value in seen:
            yield Fault(paths.item(path, index), f"the {what} {value!r} is listed twice", "keep one", "Duplicate")
        seen.add(value)


def namespaced_host(path: str, value: str, *, special: str) -> Faults:
    """A host as `namespace/host`, where the namespace may also be one of the characters of `special`."""
    namespace, slash, name = value.partition("/")
    if not slash:
        hint = f"write it as namespace/host, such as ./{value} or */{value}"
        yield Fault(path, f"{value!r} does not say in which namespace", hint, "InvalidHost")
        return
    if namespace not in tuple(special):
        yield from dns_label(path, namespace, f"a namespace or one of {' '.join(special)}")
    yield from host(path, name)
