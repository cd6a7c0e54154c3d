"""How far proxies have come, as rows: what `proxy-status` and `status` show of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from meltemi.cli.meshapi import ProxyState

TYPES = ("cds", "lds", "eds", "rds", "vhds")
HEADERS = ("Name", "Type", *(name.upper() for name in TYPES), "Revision")
WIDE = ("SDS", "Addresses", "Identity", "View")

_NOT_ASKED = "-"
_KINDS = {"router": "gateway"}


def row(proxy: ProxyState, *, wide: bool = False) -> tuple[str, ...]:
    """A proxy: its id, what it is, the state of each type (`-`: never asked for), and the revision it has taken."""
    cells = (proxy.id, kind(proxy), *(state(proxy, name) for name in TYPES), revision(proxy))
    if not wide:
        return cells
    return (*cells, state(proxy, "sds"), ",".join(proxy.addresses), proxy.identity, proxy.view)


def kind(proxy: ProxyState) -> str:
    """`sidecar` or `gateway`."""
    return _KINDS.get(proxy.kind, proxy.kind)


def state(proxy: ProxyState, name: str) -> str:
    """The state of a type in capitals."""
    found = proxy.types.get(name)
    return found.state.upper() if found else _NOT_ASKED


def revision(proxy: ProxyState) -> str:
    """The revision that the proxy has taken, and the one it is still to take."""
    if proxy.settled >= proxy.revision or proxy.in_sync:
        return str(proxy.revision)
    return f"{proxy.settled} of {proxy.revision}"


def rejections(proxies: Iterable[ProxyState]) -> Iterator[str]:
    """What proxies have refused, in Envoy's words; the same refusal of several proxies once."""
    refused: dict[tuple[str, str, str], list[str]] = {}
    for proxy in proxies:
        for name, each in proxy.rejections:
            refused.setdefault((name, each.name, each.message), []).append(proxy.id)
    for (name, resource, message), by in refused.items():
        others = f" and {len(by) - 1} more" if len(by) > 1 else ""
        yield f"{by[0]}{others} refused {name.upper()} {resource}: {message}"
