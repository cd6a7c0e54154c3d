"""What becomes of a request on its way: headers changed, path and authority rewritten, another place to look at."""

from __future__ import annotations

from meltemi.explain import expressions
from meltemi.explain.requests import Headers, Request
from meltemi.model.routes import HeaderChange, MatchKind, PathRewrite, Redirect, TextMatch

_AUTHORITY = frozenset({":authority", "host"})
_PORTS = {"http": 80, "https": 443}


def changed(headers: Headers, change: HeaderChange) -> Headers:
    """Headers after a change: first some go, then some are replaced, then some are added.

    Values stay as they were written; what Envoy's command operators in them stand for is not known here.
    """
    set_ = tuple(item for item in change.set if item[0].lower() not in _AUTHORITY)
    added = tuple(item for item in change.add if item[0].lower() not in _AUTHORITY)
    gone = {name.lower() for name in change.remove} | {name.lower() for name, _ in set_}
    kept = tuple(item for item in headers if item[0].lower() not in gone)
    last = {name.lower(): (name, value) for name, value in set_}
    return (*kept, *last.values(), *added)


def authority(change: HeaderChange) -> str:
    """The authority that a change of headers sets; empty if it sets none."""
    found = [value for name, value in (*change.set, *change.add) if name.lower() in _AUTHORITY]
    return found[-1] if found else ""


def new_path(rewrite: PathRewrite, matched: TextMatch | None, path: str) -> str:
    """A path (without query) after a rewrite. `matched` is what the route asks of paths: that much of it is replaced."""
    if rewrite.full is not None:
        return rewrite.full
    if rewrite.regex is not None:
        return expressions.replaced(rewrite.regex, rewrite.substitution, path)
    new = rewrite.prefix or "/"
    if matched is None or matched.kind is MatchKind.PRESENT:
        return new + path.removeprefix("/")
    match matched.kind:
        case MatchKind.PREFIX:
            return new + path[len(matched.value) :]
        case MatchKind.SEGMENTS:
            rest = path[len(matched.value.rstrip("/")) :]
            return new + (rest.removeprefix("/") if new.endswith("/") else rest)
        case _:
            return new


def location(redirect: Redirect, matched: TextMatch | None, request: Request) -> str:
    """The URL that a redirect sends the client to (RFC 9110, 10.2.2).

    The query goes with the path, unless a whole new path has one of its own.
    """
    scheme = redirect.scheme or request.scheme
    port = "" if redirect.port is None else f":{redirect.port or _PORTS.get(redirect.scheme, 80)}"
    host = redirect.authority or _host_for(request, scheme, bool(port))
    if redirect.path is None:
        path, query = request.path, request.query
    else:
        path, query = new_path(redirect.path, matched, request.path), request.query
        if redirect.path.full is not None and "?" in path:
            query = None
    return f"{scheme}://{host}{port}{path}" + ("" if query is None else f"?{query}")


def _host_for(request: Request, scheme: str, has_port: bool) -> str:
    """The request's host. Its port goes where there is a new one, or where it is the old scheme's and the scheme changes."""
    host, port = split_port(request.authority)
    if not port:
        return request.authority
    default = scheme != request.scheme and port == str(_PORTS.get(request.scheme))
    return host if has_port or default else request.authority


def split_port(authority: str) -> tuple[str, str]:
    """Host and port of an authority; the port is empty where there is none. IPv6 addresses stand in brackets."""
    host, colon, port = authority.rpartition(":")
    return (host, port) if colon and port.isascii() and port.isdigit() else (authority, "")
