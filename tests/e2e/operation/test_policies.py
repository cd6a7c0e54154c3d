"""Each example policy of the bookshop, applied as its page says, does what its page says, and is gone when it is deleted."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from .load import Answer, get
from .rig import BOOKSHOP, PROJECT, Mesh

POLICIES = sorted((BOOKSHOP / "policies").glob("*.yaml"))

# What a program without a sidecar is told that calls the ratings in plaintext: a status, or that it was hung up on.
CALL = """
import urllib.request, urllib.error
try: print(urllib.request.urlopen("http://ratings:9080/ratings/1", timeout=5).status)
except urllib.error.HTTPError as error: print(error.code)
except OSError as error: print("refused", error)
"""

OUTSIDER = """
apiVersion: v1
kind: Pod
metadata: {name: outsider, namespace: bookshop, labels: {sidecar.istio.io/inject: "false"}}
spec: {terminationGracePeriodSeconds: 0, containers: [{name: app, command: [sleep, "600"]}]}
"""


class Shop:
    """The bookshop's door."""

    def __init__(self, mesh: Mesh, url: str) -> None:
        self.mesh = mesh
        self.url = url

    async def page(self, path: str = "/") -> Answer:
        """A page."""
        return await get(self.url + path)

    async def books(self, reader: str = "") -> dict[str, Any]:
        """What the page shows, as JSON."""
        answer = await get(f"{self.url}/api" + (f"?reader={reader}" if reader else ""))
        assert answer.status == 200, answer
        found: dict[str, Any] = json.loads(answer.text)
        return found

    async def versions(self, pages: int, reader: str = "") -> list[str]:
        """Which versions of the reviews so many pages came from, a word for each card."""
        shops = await asyncio.gather(*(self.books(reader) for _ in range(pages)))
        return [book["review"]["version"] for shop in shops for book in shop["books"] if book["review"]]

    def call(self, workload: str, container: str) -> str:
        """What a workload is told that calls the ratings."""
        command = ("exec", "-n", "bookshop", "-c", container, workload, "--", "python3", "-c", CALL)
        return self.mesh.meltemi(*command, status=None).out.strip()


@pytest.fixture
async def shop(bookshop: Mesh) -> Shop:
    """The bookshop, with no policy in force."""
    return Shop(bookshop, f"http://127.0.0.1:{await bookshop.host_port('istio-ingress', 'gateway')}")


@asynccontextmanager
async def in_force(shop: Shop, *names: str) -> AsyncIterator[None]:
    """Policies by the beginnings of their files' names, as a second terminal would apply and delete them."""
    files = [str(file.relative_to(PROJECT)) for name in names for file in POLICIES if file.name.startswith(name)]
    assert len(files) == len(names)
    arguments = [part for file in files for part in ("-f", str(PROJECT / file))]
    applied = await asyncio.to_thread(shop.mesh.meltemi, "apply", *arguments, "--wait")
    assert "live" in applied.text
    try:
        yield
    finally:
        await asyncio.to_thread(shop.mesh.meltemi, "delete", *arguments)


async def test_without_a_policy_all_versions_answer(shop: Shop) -> None:
    assert set(await shop.versions(5)) == {"v1", "v2", "v3"}


async def test_01_split_sends_a_tenth_to_version_3(shop: Shop) -> None:
    async with in_force(shop, "01"):
        versions = await shop.versions(50)
    assert set(versions) == {"v1", "v3"}
    assert 0.03 < versions.count("v3") / len(versions) < 0.2
    assert "v2" in await shop.versions(5)


async def test_02_header_routing_shows_version_3_to_ada_alone(shop: Shop) -> None:
    async with in_force(shop, "02"):
        assert set(await shop.versions(3, "ada")) == {"v3"}
        assert set(await shop.versions(3)) == {"v1"}
        assert (await shop.page("/?reader=ada")).text.count("stars red") == 6
        assert "stars red" not in (await shop.page()).text


async def test_03_fault_slows_the_ratings_and_breaks_half_of_them(shop: Shop) -> None:
    async with in_force(shop, "03"):
        began = time.monotonic()
        pages = [await shop.books() for _ in range(6)]
        took = (time.monotonic() - began) / 6
    reviews = [book["review"] for page in pages for book in page["books"] if book["review"]["version"] != "v1"]
    without = [review for review in reviews if review["stars"] is None]
    assert 0 < len(without) < len(reviews)
    assert all("503" in review["problem"] for review in without)
    assert took > 0.25
    assert "no stars" not in (await shop.page()).text


async def test_04_timeout_and_retries_bound_the_page_also_with_the_fault(shop: Shop) -> None:
    async with in_force(shop, "03", "04"):
        began = time.monotonic()
        page = await shop.books()
        assert time.monotonic() - began < 3
        assert all(book["review"] or book["review_problem"] for book in page["books"])
        told = shop.mesh.meltemi("proxy-config", "routes", "deploy/storefront-v1", "-n", "bookshop", "-o", "json").out
    assert "perTryTimeout" in told or "per_try_timeout" in told


async def test_05_strict_mtls_lets_no_plaintext_in(shop: Shop) -> None:
    shop.mesh.kubectl("apply", "-f", "-", typed=OUTSIDER)
    shop.mesh.kubectl("wait", "--for=condition=Ready", "pod/outsider", "-n", "bookshop", "--timeout=20s")
    try:
        assert shop.call("pod/outsider", "app") == "200"
        async with in_force(shop, "05"):
            assert shop.call("pod/outsider", "app").startswith("refused")
            assert "class=problem" not in (await shop.page()).text
        assert shop.call("pod/outsider", "app") == "200"
    finally:
        shop.mesh.kubectl("delete", "-f", "-", typed=OUTSIDER)


async def test_06_allow_list_lets_only_reviews_read_ratings(shop: Shop) -> None:
    assert shop.call("deploy/storefront-v1", "storefront") == "200"
    async with in_force(shop, "06"):
        assert shop.call("deploy/storefront-v1", "storefront") == "403"
        page = (await shop.page()).text
        assert "no stars" not in page
        assert "class=problem" not in page
    assert shop.call("deploy/storefront-v1", "storefront") == "200"


async def test_07_circuit_breaker_sets_the_limits_of_the_cluster(shop: Shop) -> None:
    look = ("proxy-config", "clusters", "deploy/reviews-v2", "--name", "ratings", "-o", "yaml")
    async with in_force(shop, "07"):
        told = shop.mesh.meltemi(*look).out
        assert "DestinationRule" in told
        assert re.search(r"max_?[cC]onnections: 20", told)
        assert re.search(r"consecutive_?(5xx|5xx|gatewayFailure|5Xx)", told)
        assert "class=problem" not in (await shop.page()).text
    assert "DestinationRule" not in shop.mesh.meltemi(*look).out


async def test_08_mirror_shows_version_3_traffic_that_no_reader_sees(shop: Shop) -> None:
    def requests() -> int:
        return shop.mesh.meltemi("logs", "deploy/reviews-v3", "-n", "bookshop", "-c", "reviews").out.count(
            "GET /reviews/"
        )

    async with in_force(shop, "08"):
        before = await asyncio.to_thread(requests)
        assert set(await shop.versions(3)) == {"v1"}
        assert "stars" not in re.sub(r"<style>.*?</style>", "", (await shop.page()).text, flags=re.DOTALL)
        async with asyncio.timeout(20):
            while await asyncio.to_thread(requests) < before + 18:
                pass


async def test_09_redirect_and_rewrite_keep_old_addresses_working(shop: Shop) -> None:
    async with in_force(shop, "09"):
        shelf = await shop.page("/shelf")
        assert shelf.status == 302
        assert shelf.headers["location"].endswith("/")
        old = await shop.page("/old/api")
        assert old.status == 200
        assert len(json.loads(old.text)["books"]) == 6
    # The file has replaced the bookshop's own route: it is applied again.
    shop.mesh.meltemi("apply", "-f", BOOKSHOP / "gateway.yaml", "--wait")
    assert (await shop.page()).status == 200
    assert (await shop.page("/shelf")).status == 404


def test_every_policy_has_a_test() -> None:
    tested = {name[5:7] for name in globals() if re.match(r"test_\d\d_", name)}
    assert tested == {file.name[:2] for file in POLICIES}
