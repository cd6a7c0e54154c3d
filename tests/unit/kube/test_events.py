"""Events on objects."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from meltemi.kube.events import WARNING, Recorder
from meltemi.kube.resources import CONFIG_MAPS, EVENTS
from meltemi.local.apiserver.server import ApiServer


async def test_the_same_thing_again_is_counted(tmp_path: Path) -> None:
    server = ApiServer(tmp_path / "state")
    client = server.client()
    obj = await client.create(CONFIG_MAPS, {"metadata": {"name": "c", "namespace": "default"}})
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    recorder = Recorder(client, "tester", lambda: moment)
    await recorder.record(obj, WARNING, "Broken", "it is broken")
    moment += timedelta(minutes=1)
    await recorder.record(obj, WARNING, "Broken", "it is broken")
    await recorder.record(obj, WARNING, "Broken", "it is broken in another way")
    events = (await client.list(EVENTS, "default", fields=f"involvedObject.uid={obj['metadata']['uid']}")).items
    assert sorted(event["count"] for event in events) == [1, 2]
    counted = next(event for event in events if event["count"] == 2)
    assert counted["firstTimestamp"] == "2026-01-01T00:00:00Z"
    assert counted["lastTimestamp"] == "2026-01-01T00:01:00Z"
    server.verbs.store.close()


async def test_an_event_that_cannot_be_written_is_let_go(tmp_path: Path) -> None:
    server = ApiServer(tmp_path / "state")
    obj = {"metadata": {"name": "c", "namespace": "nowhere"}}
    await Recorder(server.client(), "tester").record(obj, WARNING, "Broken", "it is broken")
    server.verbs.store.close()
