"""The reflector keeps its view unbroken, whatever the server does. The server is a script."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

import msgspec

from meltemi.kube.client import Client, decode_object
from meltemi.kube.errors import ApiError, Status, Unreachable
from meltemi.kube.reflector import Change, Reflector, What, objects
from meltemi.kube.resources import PODS, Key, Obj
from meltemi.kube.transport import Request, Response

Step = Response | list[Obj] | ApiError


class Script:
    """Answers list and watch requests with what stands in the script, in order; then the watch stays silent."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.requests: list[dict[str, str]] = []
        self._news = asyncio.Event()

    async def asked(self, times: int) -> None:
        """Waits for so many requests to have come."""
        while len(self.requests) < times:
            self._news.clear()
            await self._news.wait()

    def _note(self, request: Request) -> None:
        self.requests.append(dict(request.query))
        self._news.set()

    def _next(self, request: Request) -> Step:
        self._note(request)
        return self.steps.pop(0)

    async def request(self, request: Request) -> Response:
        step = self._next(request)
        if isinstance(step, ApiError):
            raise step
        assert isinstance(step, Response), f"a list was asked for where the script has {step}"
        return step

    @contextlib.asynccontextmanager
    async def stream(self, request: Request, *, silence: float) -> AsyncIterator[AsyncIterator[bytes]]:
        if not self.steps:
            self._note(request)
            yield self._silent()
            return
        step = self._next(request)
        if isinstance(step, ApiError):
            raise step
        assert isinstance(step, list), f"a watch was asked for where the script has {step}"
        yield self._lines(step)

    async def _lines(self, events: list[Obj]) -> AsyncGenerator[bytes, None]:
        text = b"".join(msgspec.json.encode(event) + b"\n" for event in events)
        for start in range(0, len(text), 7):
            yield text[start : start + 7]

    async def _silent(self) -> AsyncGenerator[bytes, None]:
        await asyncio.Event().wait()
        yield b""

    async def aclose(self) -> None: ...


def pod(name: str, version: int) -> Obj:
    return {"metadata": {"name": name, "namespace": "d", "resourceVersion": str(version)}}


def listed(version: int, *pods: Obj, more: str = "") -> Response:
    metadata = {"resourceVersion": str(version), "continue": more}
    return Response(200, msgspec.json.encode({"metadata": metadata, "items": list(pods)}))


def event(kind: str, obj: Obj) -> Obj:
    return {"type": kind, "object": obj}


def gone() -> Obj:
    return event("ERROR", Status(code=410, reason="Expired", message="too old").as_object())


def name_of(raw: msgspec.Raw) -> str:
    return str(decode_object(raw)["metadata"]["name"])


async def told(
    script: Script, count: int, trouble: Callable[[ApiError | None], None] | None = None
) -> list[tuple[str, str]]:
    """The first changes that a reflector on a script tells."""
    reflector = Reflector(Client(script), PODS, name_of, trouble=trouble)
    found: list[tuple[str, str]] = []
    async with asyncio.timeout(10), aclosing(reflector.changes()) as changes:
        async for change in changes:
            found.append((change.what.value, change.key.name))
            if len(found) == count:
                break
    return found


async def test_first_what_exists_then_synced_then_what_happens() -> None:
    script = Script(
        listed(5, pod("a", 3), pod("b", 4)),
        [event("MODIFIED", pod("a", 6)), event("DELETED", pod("b", 7)), event("ADDED", pod("c", 8))],
    )
    assert await told(script, 6) == [
        ("Added", "a"),
        ("Added", "b"),
        ("Synced", ""),
        ("Modified", "a"),
        ("Deleted", "b"),
        ("Added", "c"),
    ]
    assert script.requests[1]["resourceVersion"] == "5"


async def test_a_list_is_read_to_its_last_page_and_watched_from_its_first_revision() -> None:
    script = Script(listed(5, pod("a", 3), more="x"), listed(5, pod("b", 4)), [event("ADDED", pod("c", 6))])
    assert [name for _, name in await told(script, 4)] == ["a", "b", "", "c"]
    assert script.requests[1]["continue"] == "x"


async def test_a_watch_that_ends_is_resumed_where_it_was() -> None:
    script = Script(
        listed(5),
        [event("ADDED", pod("a", 6)), event("BOOKMARK", pod("", 40))],
        [event("ADDED", pod("b", 41))],
    )
    assert await told(script, 3) == [("Synced", ""), ("Added", "a"), ("Added", "b")]
    assert script.requests[2]["resourceVersion"] == "40"


async def test_after_gone_the_difference_is_told_and_nothing_twice() -> None:
    script = Script(
        listed(5, pod("a", 3), pod("b", 4), pod("c", 5)),
        [gone()],
        listed(90, pod("a", 3), pod("c", 80), pod("d", 81)),
        [event("ADDED", pod("e", 91))],
    )
    assert (await told(script, 8))[4:] == [("Modified", "c"), ("Added", "d"), ("Deleted", "b"), ("Added", "e")]


async def test_an_event_that_was_told_already_is_not_told_again() -> None:
    script = Script(listed(5, pod("a", 5)), [event("ADDED", pod("a", 5)), event("ADDED", pod("b", 6))])
    assert await told(script, 3) == [("Added", "a"), ("Synced", ""), ("Added", "b")]


async def test_trouble_is_told_and_its_end_too() -> None:
    heard: list[ApiError | None] = []
    lost = Unreachable(Status(message="connection refused"))
    script = Script(lost, listed(5, pod("a", 3)), lost, [event("ADDED", pod("b", 6))])
    assert await told(script, 3, heard.append) == [("Added", "a"), ("Synced", ""), ("Added", "b")]
    assert heard == [lost, None, lost, None]
    assert script.requests[3]["resourceVersion"] == "5"


async def test_plain_objects_carry_their_kind_also_from_lists() -> None:
    script = Script(listed(5, pod("a", 3)))
    async with asyncio.timeout(10), aclosing(objects(Client(script), PODS).changes()) as changes:
        first: Change[Obj] = await anext(changes)
    assert first.what is What.ADDED
    assert first.key == Key("d", "a")
    assert first.value is not None
    assert (first.value["apiVersion"], first.value["kind"]) == ("v1", "Pod")


async def test_a_server_that_ends_every_watch_at_once_is_not_asked_without_pause() -> None:
    script = Script(listed(5), *([] for _ in range(6)))
    reflector = Reflector(Client(script), PODS, name_of)
    async with asyncio.timeout(10), aclosing(reflector.changes()) as changes:
        assert (await anext(changes)).what is What.SYNCED
        following = asyncio.ensure_future(anext(changes))
        await script.asked(7)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(script.requests) == 7
        reflector.retry_now()
        await script.asked(8)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
