"""Keeps the objects of the API: in SQLite, so that they survive `kill -9`; in memory, so that reading costs nothing.

Each write is one SQLite transaction (WAL) and gets the next revision; only when it is committed do memory, history
and watchers learn of it. So what has been acknowledged is on disk (in the kernel's hands: a power cut may take the
last moments), and a write that fails, such as on a full disk, has changed nothing.

Per kind a bounded history of events is kept for watches. A watcher holds a revision, not a queue: it reads on from
where it is, and one that falls out of the history gets `Compacted` and lists anew. History does not outlive the
process; a revision from before the start is known only if nothing has changed since.

Invariant: stored objects are never amended; a new version is a new dictionary.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from bisect import bisect_right
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from meltemi.kube.resources import Key, Obj, key_of

_HISTORY = 1000
"""Events per kind that a watch can surely go back; twice as many are held before the older half is let go."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (kind, namespace, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS revisions (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), revision INTEGER NOT NULL);
INSERT OR IGNORE INTO revisions VALUES (1, 1);
"""


class StorageError(Exception):
    """The disk has refused; nothing has changed. The message says what to do."""


class Compacted(Exception):
    """The history no longer reaches back to the revision asked for."""

    def __init__(self, revision: int, oldest: int) -> None:
        super().__init__(f"too old resource version: {revision} ({oldest})")


class Item(msgspec.Struct, frozen=True):
    """One version of an object: decoded, encoded as JSON, and its revision."""

    obj: Obj
    raw: bytes
    revision: int


class Event(msgspec.Struct, frozen=True):
    """One change: ADDED, MODIFIED or DELETED, the object as it is since (or was at last), and as it was before."""

    type: str
    key: Key
    item: Item
    before: Item | None = None

    @property
    def revision(self) -> int:
        """The revision that the change made."""
        return self.item.revision


class _Shelf:
    """The objects and the history of one kind."""

    def __init__(self, floor: int) -> None:
        self.items: dict[Key, Item] = {}
        self.events: list[Event] = []
        self.floor = floor
        self.listeners: set[Callable[[], None]] = set()
        self._sorted: list[Key] | None = None

    def in_order(self) -> list[Key]:
        """All keys in order."""
        if self._sorted is None:
            self._sorted = sorted(self.items)
        return self._sorted

    def record(self, event: Event) -> None:
        """Takes a committed change in."""
        if event.type == "DELETED":
            del self.items[event.key]
        else:
            self.items[event.key] = event.item
        if event.type != "MODIFIED":
            self._sorted = None
        self.events.append(event)
        if len(self.events) > 2 * _HISTORY:
            self.floor = self.events[_HISTORY - 1].revision
            del self.events[:_HISTORY]
        for listener in tuple(self.listeners):
            listener()


class Store:
    """All objects, by kind (such as `pods` or `deployments.apps`) and key."""

    def __init__(self, directory: Path) -> None:
        """Opens or makes the store in a directory. Raises StorageError, also if another process has it open."""
        self._directory = directory
        self._shelves: dict[str, _Shelf] = {}
        self._dependents: dict[str, set[tuple[str, Key]]] = {}
        self._uids: dict[str, tuple[str, Key]] = {}
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _lock(directory / "lock")
        try:
            self._db = _open(directory / "objects.db")
            self._db.executescript(_SCHEMA)
            self._revision: int = self._db.execute("SELECT revision FROM revisions").fetchone()[0]
            self._load()
        except sqlite3.Error as error:
            os.close(self._lock)
            raise StorageError(f"the store in {directory} cannot be opened: {error}") from error

    @property
    def revision(self) -> int:
        """The revision of the latest change."""
        return self._revision

    def close(self) -> None:
        """Closes the files; doing it again is harmless. The store must not be used afterwards."""
        self._db.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    # === reading ===

    def get(self, kind: str, key: Key) -> Item | None:
        """The current version of an object."""
        return self._shelf(kind).items.get(key)

    def items(self, kind: str, namespace: str = "") -> list[Item]:
        """The objects of a kind, in one namespace or in all, in the order of their keys."""
        shelf = self._shelf(kind)
        return [shelf.items[key] for key in shelf.in_order() if not namespace or key.namespace == namespace]

    def count(self, kind: str) -> int:
        """How many objects of a kind there are."""
        return len(self._shelf(kind).items)

    def kinds(self) -> tuple[str, ...]:
        """The kinds that have, or have had, objects."""
        return tuple(self._shelves)

    def find(self, uid: str) -> tuple[str, Key] | None:
        """Kind and key of the object with a uid."""
        return self._uids.get(uid)

    def dependents(self, uid: str) -> tuple[tuple[str, Key], ...]:
        """The objects that name an object among their `ownerReferences`, in order."""
        return tuple(sorted(self._dependents.get(uid, ())))

    # === watching ===

    def events_since(self, kind: str, revision: int) -> list[Event]:
        """The changes of a kind after a revision. Raises Compacted, also for a revision that has never been."""
        shelf = self._shelf(kind)
        if revision < shelf.floor or revision > self._revision:
            raise Compacted(revision, shelf.floor)
        return shelf.events[bisect_right(shelf.events, revision, key=lambda event: event.revision) :]

    def subscribe(self, kind: str, listener: Callable[[], None]) -> Callable[[], None]:
        """Calls `listener` after each change of a kind, until the function returned is called."""
        listeners = self._shelf(kind).listeners
        listeners.add(listener)
        return lambda: listeners.discard(listener)

    # === writing ===

    def put(self, kind: str, obj: Obj) -> Item:
        """Writes an object, new or changed, and gives it the next revision. Raises StorageError."""
        key = key_of(obj)
        item = self._stamped(obj)
        with self._writing():
            self._db.execute(
                "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", (kind, key.namespace, key.name, item.raw)
            )
        before = self._shelf(kind).items.get(key)
        self._reindex(kind, key, before.obj if before else None, item.obj)
        self._recorded(kind, Event("ADDED" if before is None else "MODIFIED", key, item, before))
        return item

    def remove(self, kind: str, key: Key) -> Item:
        """Removes an object; its last version gets the revision of the removal. Raises StorageError."""
        before = self._shelf(kind).items[key]
        item = self._stamped(before.obj)
        with self._writing():
            self._db.execute("DELETE FROM objects WHERE (kind, namespace, name) = (?, ?, ?)", (kind, *_pair(key)))
        self._reindex(kind, key, before.obj, None)
        self._recorded(kind, Event("DELETED", key, item, before))
        return item

    def _stamped(self, obj: Obj) -> Item:
        revision = self._revision + 1
        stamped = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(revision)}}
        return Item(stamped, msgspec.json.encode(stamped), revision)

    def _recorded(self, kind: str, event: Event) -> None:
        self._revision = event.revision
        self._shelf(kind).record(event)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction, and SQLite's words made plain."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("UPDATE revisions SET revision = revision + 1")
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise StorageError(_explanation(error, self._directory)) from error

    def _reindex(self, kind: str, key: Key, before: Obj | None, after: Obj | None) -> None:
        if before is not None:
            self._uids.pop(before["metadata"].get("uid", ""), None)
        if after is not None:
            self._uids[after["metadata"].get("uid", "")] = (kind, key)
        for uid in _owners(before) - _owners(after):
            self._dependents[uid].discard((kind, key))
            if not self._dependents[uid]:
                del self._dependents[uid]
        for uid in _owners(after):
            self._dependents.setdefault(uid, set()).add((kind, key))

    def _shelf(self, kind: str) -> _Shelf:
        shelf = self._shelves.get(kind)
        if shelf is None:
            shelf = self._shelves[kind] = _Shelf(self._start)
        return shelf

    def _load(self) -> None:
        self._start = self._revision
        for kind, body in self._db.execute("SELECT kind, body FROM objects"):
            obj: Obj = msgspec.json.decode(body)
            key = key_of(obj)
            self._shelf(kind).items[key] = Item(obj, body, int(obj["metadata"]["resourceVersion"]))
            self._reindex(kind, key, None, obj)


def _pair(key: Key) -> tuple[str, str]:
    return key.namespace, key.name


def _owners(obj: Obj | None) -> set[str]:
    if obj is None:
        return set()
    return {owner.get("uid", "") for owner in obj["metadata"].get("ownerReferences") or ()}


def _lock(path: Path) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise StorageError(f"{path.parent} is in use by another API server") from None
    return handle


def _open(path: Path) -> sqlite3.Connection:
    path.touch(0o600)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    return db


def _explanation(error: sqlite3.Error, directory: Path) -> str:
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return f"the disk that holds {directory} is full: nothing was changed; make room and try again"
    return f"the store in {directory} cannot be written, nothing was changed: {error}"
