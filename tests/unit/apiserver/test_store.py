"""The store: revisions, history, survival, and a disk that is full."""

from __future__ import annotations

from pathlib import Path

import pytest

from meltemi.kube.resources import Key, Obj
from meltemi.local.apiserver import store as store_module
from meltemi.local.apiserver.store import Compacted, StorageError, Store


def pod(name: str, **more: object) -> Obj:
    return {"metadata": {"name": name, "namespace": "d", "uid": name, **more}}


def test_every_write_has_a_revision_of_its_own(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first, second = store.put("pods", pod("a")), store.put("pods", pod("b"))
    assert first.revision < second.revision == store.revision
    assert first.obj["metadata"]["resourceVersion"] == str(first.revision)
    removed = store.remove("pods", Key("d", "a"))
    assert removed.revision == store.revision > second.revision
    store.close()


def test_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put("pods", pod("a"))
    store.put("pods", pod("b"))
    store.remove("pods", Key("d", "a"))
    revision = store.revision
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in tmp_path.glob("objects.db*"):
        (copy / file.name).write_bytes(file.read_bytes())
    reopened = Store(copy)
    assert [item.obj["metadata"]["name"] for item in reopened.items("pods")] == ["b"]
    assert reopened.revision == revision
    store.close()
    reopened.close()


def test_history_tells_what_came_after_a_revision(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = store.put("pods", pod("a"))
    store.put("services", pod("s"))
    store.put("pods", pod("a", labels={"x": "y"}))
    store.remove("pods", Key("d", "a"))
    assert [event.type for event in store.events_since("pods", first.revision)] == ["MODIFIED", "DELETED"]
    assert store.events_since("pods", store.revision) == []
    store.close()


def test_history_has_a_bound_and_says_when_it_has_been_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_HISTORY", 5)
    store = Store(tmp_path)
    start = store.revision
    for number in range(20):
        store.put("pods", pod("a", labels={"n": str(number)}))
    with pytest.raises(Compacted):
        store.events_since("pods", start)
    assert len(store.events_since("pods", store.revision - 5)) == 5
    store.close()


def test_a_revision_of_another_life_is_compacted(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put("pods", pod("a"))
    with pytest.raises(Compacted):
        store.events_since("pods", store.revision + 10)
    old = store.revision - 1
    store.close()
    reopened = Store(tmp_path)
    with pytest.raises(Compacted):
        reopened.events_since("pods", old)
    assert reopened.events_since("pods", reopened.revision) == []
    reopened.close()


def test_a_full_disk_refuses_clearly_and_loses_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put("pods", pod("a"))
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    revision = store.revision
    with pytest.raises(StorageError, match=r"is full: nothing was changed"):
        store.put("pods", pod("big", annotations={"x": "y" * 100_000}))
    assert store.revision == revision
    assert store.get("pods", Key("d", "big")) is None
    store._db.execute("PRAGMA max_page_count = 100000")
    assert store.put("pods", pod("b")).revision == revision + 1
    store.close()


def test_only_one_server_may_have_a_directory(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(StorageError, match="in use by another API server"):
        Store(tmp_path)
    store.close()


def test_listeners_hear_of_changes_of_their_kind(tmp_path: Path) -> None:
    store = Store(tmp_path)
    heard: list[str] = []
    unsubscribe = store.subscribe("pods", lambda: heard.append("pods"))
    store.put("pods", pod("a"))
    store.put("services", pod("s"))
    unsubscribe()
    store.put("pods", pod("b"))
    assert heard == ["pods"]
    store.close()


def test_dependents_are_known_by_their_owners_uid(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put("pods", pod("a", ownerReferences=[{"uid": "owner"}]))
    assert store.dependents("owner") == (("pods", Key("d", "a")),)
    store.put("pods", pod("a"))
    assert store.dependents("owner") == ()
    store.close()
