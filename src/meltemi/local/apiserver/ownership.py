"""Server-side apply: who owns which field, who may change it, and what goes when its last owner lets go.

An object is seen as a set of *leaves*: the path of each scalar, atomic or empty list or map, and of each item of a
keyed list. A path is written in the notation of `fieldsV1` (`f:spec`, `k:{"name":"web"}`, `v:"a"`), so a manager's entry in
`metadata.managedFields` is the same set folded into a tree. Everything here is set arithmetic on those paths:

- apply: what the manager's last apply held and this one does not, and nobody else holds, is removed; a leaf that
  another manager holds and that would change its value is a conflict, unless forced; equal values are shared.
- any other write: whoever changes a leaf takes it from all others.

Source: Kubernetes documentation "Server-Side Apply"; the notation is that of structured-merge-diff v4.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec

from meltemi.kube.resources import Obj
from meltemi.local.apiserver.shapes import How, Shape

Path = tuple[str, ...]
Leaves = dict[Path, Any]

_PRESENT = "an item is here"
_SERVERS_OWN = frozenset(
    {
        "name",
        "namespace",
        "generateName",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "managedFields",
        "selfLink",
    }
)


class Manager(msgspec.Struct, frozen=True, order=True):
    """Who owns fields: a name, the operation (Apply or Update), and the subresource written through, if any."""

    name: str
    operation: str
    subresource: str = ""


class Entry(msgspec.Struct, frozen=True):
    """What one manager owns, in which version it spoke, and when it last changed something (RFC 3339)."""

    paths: frozenset[Path]
    api_version: str
    time: str


class Disputed(msgspec.Struct, frozen=True):
    """A leaf that an apply would change although another manager owns it."""

    path: Path
    manager: Manager


Managers = dict[Manager, Entry]


# === leaves ===


def leaves(obj: Obj, shape: Shape) -> Leaves:
    """The leaves of an object that managers can own: not its identity, nor what the server itself keeps."""
    found: Leaves = {}
    metadata = obj.get("metadata")
    users = {name: value for name, value in obj.items() if name not in ("apiVersion", "kind", "metadata")}
    _collect(users, shape, (), found)
    if isinstance(metadata, dict):
        kept = {name: value for name, value in metadata.items() if name not in _SERVERS_OWN}
        if kept:
            _collect(kept, shape.field("metadata", metadata), ("f:metadata",), found)
    return found


def _collect(value: Any, shape: Shape, path: Path, found: Leaves) -> None:
    if isinstance(value, dict) and value and shape.how is not How.ATOMIC:
        for name, inner in value.items():
            _collect(inner, shape.field(name, inner), (*path, f"f:{name}"), found)
    elif isinstance(value, list) and value and shape.how is How.KEYED and all(map(shape.key_of, value)):
        for item in value:
            place = (*path, _key_element(item, shape))
            found[place] = _PRESENT
            for name, inner in item.items():
                _collect(inner, shape.field(name, inner), (*place, f"f:{name}"), found)
    elif isinstance(value, list) and value and shape.how is How.SET:
        for scalar in value:
            found[(*path, f"v:{msgspec.json.encode(scalar).decode()}")] = scalar
    elif path:
        found[path] = value


def _key_element(item: Any, shape: Shape) -> str:
    pairs = shape.key_of(item) or ()
    return f"k:{msgspec.json.encode(dict(sorted(pairs))).decode()}"


# === merging and removing ===


def merged(live: Any, applied: Any, shape: Shape) -> Any:
    """The live value with what has been applied laid over it."""
    if isinstance(applied, dict) and isinstance(live, dict) and shape.how is not How.ATOMIC:
        result = dict(live)
        for name, value in applied.items():
            result[name] = merged(live[name], value, shape.field(name, value)) if name in live else value
        return result
    if isinstance(applied, list) and isinstance(live, list) and shape.how is How.SET:
        return live + [value for value in applied if value not in live]
    if isinstance(applied, list) and isinstance(live, list) and shape.how is How.KEYED:
        return _merged_items(live, applied, shape)
    return applied


def _merged_items(live: list[Any], applied: list[Any], shape: Shape) -> list[Any]:
    """Applied items in the order of the applied list, each at the earliest place that keeps it; others stay in theirs."""
    item_shape = Shape(how=How.FIELDS, fields=shape.fields)
    wanted = {_key_element(item, shape): item for item in applied}
    existing = {_key_element(item, shape): item for item in live}
    fused = {key: merged(existing[key], item, item_shape) if key in existing else item for key, item in wanted.items()}
    queue = list(wanted)
    result: list[Any] = []
    for key, item in existing.items():
        if key not in wanted:
            result.append(item)
            continue
        if key in queue:
            place = queue.index(key) + 1
            result += [fused[name] for name in queue[:place]]
            queue = queue[place:]
    return result + [fused[name] for name in queue]


def without(value: Any, paths: Iterable[Path], shape: Shape, kept: Collection[Path] = ()) -> Any:
    """The value without the leaves at `paths`; maps and lists that this empties go too, but for those at `kept`."""
    tree: dict[str, Any] = {}
    for path in paths:
        node = tree
        for element in path:
            node = node.setdefault(element, {})
        node["."] = {}
    return _Pruning(kept).pruned(value, tree, shape, ())


class _Pruning:
    """Takes what a tree of paths marks out of values."""

    def __init__(self, kept: Collection[Path]) -> None:
        self._kept = kept

    def pruned(self, value: Any, tree: Mapping[str, Any], shape: Shape, path: Path) -> Any:
        """The value at a path without what the tree marks below it."""
        if isinstance(value, dict):
            return self._fields(value, tree, shape, path)
        if isinstance(value, list) and shape.how is How.SET:
            return [item for item in value if f"v:{msgspec.json.encode(item).decode()}" not in tree]
        if isinstance(value, list) and shape.how is How.KEYED:
            return self._items(value, tree, shape, path)
        return value

    def _fields(self, value: Obj, tree: Mapping[str, Any], shape: Shape, path: Path) -> Obj:
        result = {}
        for name, inner in value.items():
            place = (*path, f"f:{name}")
            branch = tree.get(place[-1])
            if branch is None:
                result[name] = inner
            elif not ("." in branch and (len(branch) == 1 or not isinstance(inner, (dict, list)))):
                left = self.pruned(inner, branch, shape.field(name, inner), place)
                if left not in ({}, []) or inner in ({}, []) or place in self._kept:
                    result[name] = left
        return result

    def _items(self, value: list[Any], tree: Mapping[str, Any], shape: Shape, path: Path) -> list[Any]:
        item_shape = Shape(how=How.FIELDS, fields=shape.fields)
        items = []
        for item in value:
            element = _key_element(item, shape)
            branch = tree.get(element)
            if branch is None:
                items.append(item)
            elif "." not in branch:  # the item stays, for someone owns part of it: then so does its key
                rest = {name: inner for name, inner in branch.items() if name[2:] not in shape.keys}
                items.append(self.pruned(item, rest, item_shape, (*path, element)))
        return items


# === the two kinds of write ===


class Applied(msgspec.Struct, frozen=True):
    """The outcome of an apply: the object, the managers, or the disputed leaves that forbid it."""

    obj: Obj
    managers: Managers
    disputes: tuple[Disputed, ...] = ()


def apply(live: Obj, config: Obj, managers: Managers, who: Manager, now: str, shape: Shape, *, force: bool) -> Applied:
    """What an apply of `config` by `who` makes of `live` (whose managers are given)."""
    api_version = str(config.get("apiVersion") or "")
    wanted = leaves(config, shape)
    current = leaves(live, shape)
    others = {manager: entry for manager, entry in managers.items() if manager != who}
    changing = {path for path, value in wanted.items() if current.get(path) != value}
    disputes = tuple(
        Disputed(path, manager)
        for manager, entry in sorted(others.items(), key=lambda pair: pair[0])
        for path in sorted(entry.paths & changing)
        if path in current
    )
    if disputes and not force:
        return Applied(live, managers, disputes)
    if disputes:
        lost = {dispute.path for dispute in disputes}
        others = _kept(others, lost)
    before = managers.get(who)
    result = merged(live, config, shape)
    if before is not None:
        dropped = before.paths - wanted.keys()
        held = _with_ancestors(path for entry in others.values() for path in entry.paths)
        held |= _with_ancestors(wanted)
        result = without(result, [path for path in dropped if path not in held], shape, held)
    paths = frozenset(wanted)
    same = before is not None and before.paths == paths and before.api_version == api_version
    entry = Entry(paths, api_version, before.time if same and before is not None else now)
    return Applied(result, {**others, who: entry} if paths else others)


def updated(before: Obj, after: Obj, managers: Managers, who: Manager, now: str, shape: Shape) -> Managers:
    """The managers after a write other than an apply: who changed a leaf owns it, and alone."""
    old, new = leaves(before, shape), leaves(after, shape)
    changed = {path for path, value in new.items() if path not in old or old[path] != value}
    gone = old.keys() - new.keys()
    if not changed and not gone:
        return managers
    mine = managers.get(who)
    others = _kept({manager: entry for manager, entry in managers.items() if manager != who}, changed | gone)
    paths = ((mine.paths if mine else frozenset()) | changed) - gone
    if not paths:
        return others
    return {**others, who: Entry(frozenset(paths), str(after.get("apiVersion") or ""), now)}


def present(managers: Managers, obj: Obj, shape: Shape) -> Managers:
    """The managers as far as what they own is there in the object as it came to be."""
    there = _with_ancestors(leaves(obj, shape))
    return _kept(managers, {path for entry in managers.values() for path in entry.paths if path not in there})


def _kept(managers: Managers, lost: set[Path]) -> Managers:
    """The managers without the lost leaves; those left with nothing go. An item goes with what was in it."""
    kept = {}
    for manager, entry in managers.items():
        paths = entry.paths - lost
        if paths == entry.paths:
            kept[manager] = entry
        elif paths:
            kept[manager] = msgspec.structs.replace(entry, paths=paths)
    return kept


def _with_ancestors(paths: Iterable[Path]) -> set[Path]:
    """The paths and all above them, so that an item in which someone owns a field stays."""
    found: set[Path] = set()
    for path in paths:
        for length in range(len(path), 0, -1):
            prefix = path[:length]
            if prefix in found:
                break
            found.add(prefix)
    return found


# === metadata.managedFields ===


def read_managers(obj: Obj) -> Managers:
    """The managers that an object's `metadata.managedFields` names."""
    managers: Managers = {}
    for entry in obj.get("metadata", {}).get("managedFields") or ():
        manager = Manager(
            entry.get("manager") or "unknown", entry.get("operation") or "Update", entry.get("subresource") or ""
        )
        paths = frozenset(_unfold(entry.get("fieldsV1") or {}, ()))
        if paths:
            managers[manager] = Entry(paths, entry.get("apiVersion") or "", entry.get("time") or "")
    return managers


def write_managers(managers: Managers) -> list[Obj]:
    """The managers as `metadata.managedFields`: applies first, then by time and name, as Kubernetes orders them."""
    ordered = sorted(managers.items(), key=lambda pair: (pair[0].operation != "Apply", pair[1].time, pair[0]))
    return [
        {
            "manager": manager.name,
            "operation": manager.operation,
            "apiVersion": entry.api_version,
            "time": entry.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": _folded(entry.paths),
            **({"subresource": manager.subresource} if manager.subresource else {}),
        }
        for manager, entry in ordered
    ]


def _folded(paths: frozenset[Path]) -> Obj:
    """Paths as a tree. A `.` marks a path that is owned itself beside others below it, and every item."""
    tree: Obj = {}
    for path in sorted(paths, key=len, reverse=True):
        node = tree
        for element in path:
            node = node.setdefault(element, {})
        if node or path[-1].startswith("k:"):
            node["."] = {}
    return tree


def _unfold(tree: Mapping[str, Any], path: Path) -> Iterable[Path]:
    for element, inner in tree.items():
        if element == ".":
            if path:
                yield path
        elif inner:
            yield from _unfold(inner, (*path, element))
        else:
            yield (*path, element)


def human(path: Path) -> str:
    """A path as Kubernetes shows it in conflicts: `.spec.template.spec.containers[name="web"].image`."""
    text = ""
    for element in path:
        mark, _, rest = element.partition(":")
        if mark == "f":
            text += f".{rest}"
        elif mark == "k":
            pairs = msgspec.json.decode(rest, type=dict[str, Any])
            text += f"[{','.join(f'{key}={msgspec.json.encode(value).decode()}' for key, value in pairs.items())}]"
        else:
            text += f"[{mark}={rest}]"
    return text
