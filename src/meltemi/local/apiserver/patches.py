"""The three patches of Kubernetes, as functions of plain JSON: merge (RFC 7386), JSON (RFC 6902), strategic merge.

All leave their arguments alone. A patch that cannot be applied raises ValueError with a message for the user.
"""

from __future__ import annotations

from typing import Any

from meltemi.local.apiserver.shapes import How, Shape


def merge(target: Any, patch: Any) -> Any:
    """The merge patch of RFC 7386: objects merge, null removes, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


# === RFC 6902 ===


def json_patch(target: Any, operations: Any) -> Any:
    """The JSON patch of RFC 6902: add, remove, replace, move, copy and test, in order; all or nothing."""
    if not isinstance(operations, list):
        raise ValueError("a JSON patch is a list of operations")
    for operation in operations:
        if not isinstance(operation, dict) or not isinstance(operation.get("path"), str):
            raise ValueError("each operation of a JSON patch has an op and a path")
        target = _operate(target, operation)
    return target


def _operate(target: Any, operation: dict[str, Any]) -> Any:
    op, path = operation.get("op"), _pointer(operation["path"])
    if op in ("add", "replace", "test") and "value" not in operation:
        raise ValueError(f"{op} {operation['path']}: has no value")
    if op == "add":
        return _set(target, path, operation["value"], insert=True)
    if op == "replace":
        _find(target, path)
        return _set(target, path, operation["value"], insert=False)
    if op == "remove":
        return _drop(target, path)
    if op == "test":
        if _find(target, path) != operation["value"]:
            raise ValueError(f"test {operation['path']}: the value is another")
        return target
    if op in ("move", "copy"):
        source = _pointer(str(operation.get("from", "")))
        value = _find(target, source)
        return _set(_drop(target, source) if op == "move" else target, path, value, insert=True)
    raise ValueError(f"{op!r} is not an operation of a JSON patch")


def _pointer(text: str) -> list[str]:
    if not text:
        return []
    if not text.startswith("/"):
        raise ValueError(f"{text!r} is not a JSON pointer (it starts with a slash)")
    return [part.replace("~1", "/").replace("~0", "~") for part in text[1:].split("/")]


def _find(target: Any, path: list[str]) -> Any:
    for part in path:
        if isinstance(target, dict) and part in target:
            target = target[part]
        elif isinstance(target, list):
            target = target[_index(target, part, end=False)]
        else:
            raise ValueError(f"the path /{'/'.join(path)} does not exist")
    return target


def _index(items: list[Any], part: str, *, end: bool) -> int:
    if end and part == "-":
        return len(items)
    if not part.isdigit() or int(part) >= len(items) + end:
        raise ValueError(f"{part!r} is not an index of a list of {len(items)}")
    return int(part)


def _set(target: Any, path: list[str], value: Any, *, insert: bool) -> Any:
    if not path:
        return value
    part, rest = path[0], path[1:]
    if isinstance(target, dict):
        if rest and part not in target:
            raise ValueError(f"the path has no field {part!r}")
        return {**target, part: _set(target.get(part), rest, value, insert=insert)}
    if isinstance(target, list):
        index = _index(target, part, end=insert and not rest)
        if rest:
            return [*target[:index], _set(target[index], rest, value, insert=insert), *target[index + 1 :]]
        return [*target[:index], value, *target[index + (0 if insert else 1) :]]
    raise ValueError(f"there is nothing to hold {part!r}")


def _drop(target: Any, path: list[str]) -> Any:
    if not path:
        return None
    _find(target, path)
    part, rest = path[0], path[1:]
    if isinstance(target, list):
        index = int(part)
        return [*target[:index], *([_drop(target[index], rest)] if rest else []), *target[index + 1 :]]
    if rest:
        return {**target, part: _drop(target[part], rest)}
    return {name: value for name, value in target.items() if name != part}


# === strategic merge ===

_ORDER, _DELETE_SCALARS, _RETAIN = "$setElementOrder/", "$deleteFromPrimitiveList/", "$retainKeys"


def strategic(target: Any, patch: Any, shape: Shape) -> Any:
    """Kubernetes' strategic merge patch: lists keyed by a field merge item by item; `$patch` directives steer it."""
    if not isinstance(patch, dict):
        return patch
    directive = patch.get("$patch")
    if directive == "delete":
        return {}
    body = {name: value for name, value in patch.items() if not name.startswith("$")}
    if directive == "replace":
        return body
    result = dict(target) if isinstance(target, dict) else {}
    if isinstance(retained := patch.get(_RETAIN), list):
        result = {name: value for name, value in result.items() if name in retained}
    for name, value in body.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, list):
            result[name] = _strategic_list(result.get(name), value, shape.field(name, value))
        else:
            result[name] = strategic(result.get(name), value, shape.field(name, value))
    for name, value in patch.items():
        if name.startswith(_DELETE_SCALARS):
            field = name.removeprefix(_DELETE_SCALARS)
            result[field] = [item for item in result.get(field) or () if item not in value]
    for name, value in patch.items():
        if name.startswith(_ORDER):
            field = name.removeprefix(_ORDER)
            if isinstance(result.get(field), list):
                result[field] = _ordered(result[field], value, shape.field(field, []))
    return result


def _strategic_list(current: Any, patch: list[Any], shape: Shape) -> list[Any]:
    items = list(current) if isinstance(current, list) else []
    if shape.how is How.SET:
        return items + [value for value in patch if value not in items]
    if shape.how is not How.KEYED:
        return [item for item in patch if not (isinstance(item, dict) and item.get("$patch"))]
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if item.get("$patch") != "replace"]
    key = shape.keys[0]
    for item in patch:
        if not isinstance(item, dict) or key not in item:
            raise ValueError(f"an item of a merged list lacks its key {key!r}")
        place = next((index for index, old in enumerate(items) if _is_meant(old, item, shape)), None)
        if item.get("$patch") == "delete":
            items = [old for old in items if not _is_meant(old, item, shape)]
        elif place is None:
            items.append(strategic({}, item, shape))
        else:
            items[place] = strategic(items[place], item, shape)
    return items


def _is_meant(old: Any, item: dict[str, Any], shape: Shape) -> bool:
    """Whether a patch's item means an existing one: by the first key, and by the others where both name them."""
    first, *others = shape.keys
    return (
        isinstance(old, dict)
        and old.get(first) == item[first]
        and all(old.get(key, item.get(key)) == item.get(key, old.get(key)) for key in others)
    )


def _ordered(items: list[Any], order: list[Any], shape: Shape) -> list[Any]:
    """The items that `order` names in its order; the others stay behind the ones they followed."""
    if shape.how is How.KEYED:
        key = shape.keys[0]
        ranks = {entry.get(key): rank for rank, entry in enumerate(order) if isinstance(entry, dict)}
        names = [item.get(key) if isinstance(item, dict) else None for item in items]
    else:
        ranks = {entry: rank for rank, entry in enumerate(order)}
        names = items
    latest = -1
    sort_keys = []
    for name in names:
        latest = ranks.get(name, latest)
        sort_keys.append((latest, name not in ranks))
    return [item for _, item in sorted(zip(sort_keys, items, strict=True), key=lambda pair: pair[0])]
