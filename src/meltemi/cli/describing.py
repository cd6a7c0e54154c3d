"""One object in full, for people: what it is, how it fares, what is wrong with it, where it is live, what happened.

Sections are plain functions from JSON to lines; a section without lines is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from meltemi.cli import tables
from meltemi.cli.meshapi import Live, MeshProblem, ProxyState
from meltemi.cli.printing import as_yaml, plural
from meltemi.kube.resources import Obj
from meltemi.sources import marks

_HIDDEN = frozenset({marks.ORIGIN, marks.DIRECTORY, "kubectl.kubernetes.io/last-applied-configuration"})
_META = frozenset({"apiVersion", "kind", "metadata", "status"})

Lines = list[str]


def text(sections: Iterable[tuple[str, Lines]]) -> str:
    """The whole: each section under its name."""
    parts = []
    for name, lines in sections:
        if lines:
            parts.append("\n".join([f"{name}:", *(f"  {line}" for line in lines)]) if name else "\n".join(lines))
    return "\n\n".join(parts)


def head(obj: Obj, origin: str) -> Lines:
    """Name, kind, namespace, age, labels, and where it was written."""
    metadata = obj["metadata"]
    annotations = {k: v for k, v in (metadata.get("annotations") or {}).items() if k not in _HIDDEN}
    pairs = [
        ("Name", metadata["name"]),
        ("Namespace", metadata.get("namespace", "")),
        ("Kind", f"{obj.get('kind')} ({obj.get('apiVersion')})"),
        ("Written in", origin),
        ("Created", str(metadata.get("creationTimestamp") or "")),
        ("Being deleted", str(metadata.get("deletionTimestamp") or "")),
        ("Owned by", ", ".join(f"{o['kind']} {o['name']}" for o in metadata.get("ownerReferences") or ())),
        ("Labels", _pairs(metadata.get("labels") or {})),
        ("Annotations", _pairs(annotations)),
    ]
    return [f"{name + ':':<15}{value}" for name, value in pairs if value]


def _pairs(values: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(values.items()))


def content(obj: Obj) -> Lines:
    """What was asked for, as YAML; secrets are counted, not shown."""
    if obj.get("kind") == "Secret":
        data = obj.get("data") or {}
        return [f"{key}: {plural(_decoded_size(value), 'byte')}" for key, value in sorted(data.items())]
    shown = {key: value for key, value in obj.items() if key not in _META}
    if list(shown) == ["spec"]:
        shown = shown["spec"]
    return as_yaml(shown).splitlines() if shown else []


def _decoded_size(value: str) -> int:
    return len(value) * 3 // 4 - value[-2:].count("=")


def conditions(obj: Obj) -> Lines:
    """The conditions of its status as a table."""
    found = (obj.get("status") or {}).get("conditions") or ()
    rows = [
        (
            str(each.get("type", "")),
            str(each.get("status", "")),
            str(each.get("reason", "")),
            str(each.get("message") or ""),
        )
        for each in found
    ]
    return list(tables.lines(("Type", "Status", "Reason", "Message"), rows)) if rows else []


def containers(pod: Obj) -> Lines:
    """The containers of a pod: their state, restarts, and why they are not ready."""
    status = pod.get("status") or {}
    found = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    rows = [
        (
            str(each.get("name", "")),
            "yes" if each.get("ready") else "no",
            str(each.get("restartCount", 0)),
            _state(each.get("state") or {}),
            _state(each.get("lastState") or {}),
        )
        for each in found
    ]
    return list(tables.lines(("Name", "Ready", "Restarts", "State", "Before"), rows)) if rows else []


def _state(state: Mapping[str, Any]) -> str:
    for name, details in state.items():
        reason = str(details.get("reason") or "")
        code = details.get("exitCode")
        told = ", ".join(part for part in (reason, f"exit code {code}" if code is not None else "") if part)
        message = f": {details['message']}" if details.get("message") else ""
        return f"{name}{f' ({told})' if told else ''}{message}"
    return ""


def problems(found: Sequence[MeshProblem]) -> Lines:
    """What is wrong with it, and what to do."""
    lines: Lines = []
    for each in found:
        path = f"{each.path}: " if each.path else ""
        lines.append(f"{each.severity.lower()}: {path}{each.message}")
        if each.hint:
            lines.append(f"  hint: {each.hint}")
    return lines


def liveness(live: Live | None, holders: Sequence[str]) -> Lines:
    """Whether all proxies have taken it, and which hold something that was made of it."""
    lines: Lines = []
    if live is not None:
        proxies = plural(live.proxies, "proxy", "proxies")
        if not live.seen:
            lines.append("the control plane has not read this version yet")
        elif live.behind:
            lines.append(f"{len(live.behind)} of {proxies} have not acknowledged yet: {', '.join(live.behind)}")
        else:
            lines.append(f"acknowledged by all of {proxies}")
    if holders:
        lines.append(f"part of the configuration of {plural(len(holders), 'proxy', 'proxies')}:")
        lines += [f"  {name}" for name in holders]
    return lines


def classes(proxies: Iterable[ProxyState]) -> dict[tuple[str, str], list[ProxyState]]:
    """Proxies by what they hold: those of one view and audience hold the same."""
    found: dict[tuple[str, str], list[ProxyState]] = {}
    for proxy in proxies:
        found.setdefault((proxy.view, proxy.audience), []).append(proxy)
    return found


def events(found: Sequence[Obj], now: datetime) -> Lines:
    """What happened to it, the oldest first."""
    ordered = sorted(found, key=_moment)
    rows = [
        (
            str(each.get("type") or "Normal"),
            str(each.get("reason") or ""),
            _ago(_moment(each), now) + (f" (x{each['count']})" if (each.get("count") or 1) > 1 else ""),
            str(each.get("message") or "").strip(),
        )
        for each in ordered
    ]
    return list(tables.lines(("Type", "Reason", "Age", "Message"), rows)) if rows else []


def _moment(event: Obj) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or "")


def _ago(moment: str, now: datetime) -> str:
    try:
        seconds = max(0, int((now - datetime.fromisoformat(moment)).total_seconds()))
    except ValueError:
        return "?"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
