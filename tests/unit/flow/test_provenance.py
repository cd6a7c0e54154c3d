"""From a row back to what it has read, and on to the facts it rests on; and the graph in numbers and in JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator

import msgspec
import pytest

from meltemi.base.problems import Problem
from meltemi.base.refs import Origin, Ref
from meltemi.flow import Graph, Put, Read, Source, Table, View, using


class Service(msgspec.Struct, frozen=True):
    host: str
    app: str


class Mesh:
    """Services which select pods by application; hosts which gather services."""

    def __init__(self) -> None:
        g = self.g = Graph(clock=iter(range(10_000)).__next__)
        self.pods: Table[str, str] = g.input("pods", app=lambda app: app)
        self.services: Table[str, Service] = g.input("services")
        self.config: Table[str, str] = g.input("config")
        self.mesh = g.single("mesh", lambda *, config: config.get("domain"), using(config=self.config))
        self.endpoints = g.derive(
            "endpoints", self.select, self.services, using(pods=self.pods, mesh=self.mesh), size=len
        )
        self.sizes = g.gather("sizes", lambda size, rows: len(rows), self.endpoints, "size")
        self.hosts = g.expand("hosts", self.host, self.services)

    @staticmethod
    def select(service: Service, *, pods: View[str, str], mesh: View[tuple[()], str]) -> tuple[str, ...]:
        if mesh.one("") == "broken":
            raise ValueError("broken")
        return pods.keys_by("app", service.app)

    @staticmethod
    def host(service: Service) -> Iterator[tuple[str, str] | Problem]:
        yield service.host, service.app

    def fill(self) -> None:
        self.g.commit(
            [
                Put(self.pods, "cart-1", "cart"),
                Put(self.pods, "cart-2", "cart"),
                Put(self.pods, "till-1", "till"),
                Put(self.services, "cart", Service("cart.shop", "cart")),
                Put(self.services, "till", Service("till.shop", "till")),
                Put(self.services, "cart-too", Service("cart.shop", "cart")),
                Put(self.config, "domain", "cluster.local"),
            ]
        )


@pytest.fixture
def mesh() -> Mesh:
    mesh = Mesh()
    mesh.fill()
    return mesh


def test_a_row_knows_what_it_has_read(mesh: Mesh) -> None:
    assert mesh.endpoints.provenance("cart") == {
        Read("services", "key", "cart"),
        Read("pods", "app.keys", "cart"),
        Read("mesh", "key", ()),
    }
    assert mesh.sizes.provenance(2) == {Read("endpoints", "size", 2)}
    assert mesh.mesh.provenance(()) == {Read("config", "key", "domain")}
    assert mesh.pods.provenance("cart-1") == frozenset()
    assert mesh.endpoints.provenance("nobody") == frozenset()


def test_a_row_made_alike_by_several_has_read_what_each_of_them_has(mesh: Mesh) -> None:
    assert mesh.hosts.provenance("cart.shop") == {Read("services", "key", "cart"), Read("services", "key", "cart-too")}


def test_a_row_rests_on_the_facts_really_read_and_on_no_others(mesh: Mesh) -> None:
    assert mesh.g.sources(mesh.endpoints, "till") == {
        Source("services", "till"),
        Source("pods", "till-1"),
        Source("config", "domain"),
    }
    assert mesh.g.sources(mesh.sizes, 2) == {
        Source("services", "cart"),
        Source("services", "cart-too"),
        Source("pods", "cart-1"),
        Source("pods", "cart-2"),
        Source("config", "domain"),
    }
    assert mesh.g.sources(mesh.pods, "cart-1") == {Source("pods", "cart-1")}
    assert mesh.g.sources(mesh.pods, "nobody") == frozenset()


def test_a_row_that_stands_as_last_good_rests_on_what_made_it(mesh: Mesh) -> None:
    before = mesh.endpoints.provenance("cart")
    mesh.g.commit([Put(mesh.config, "domain", "broken")])
    assert mesh.endpoints.is_failing("cart")
    assert mesh.endpoints.provenance("cart") == before
    mesh.g.commit([Put(mesh.config, "domain", "mended")])
    assert mesh.endpoints.provenance("cart") == before


def test_statistics_tell_what_each_table_holds_and_has_cost(mesh: Mesh) -> None:
    mesh.g.commit([Put(mesh.config, "domain", "example.org")])
    statistics = mesh.g.statistics()
    endpoints = statistics.table("endpoints")

    assert statistics.revision == 2
    assert (endpoints.kind, endpoints.rows, endpoints.changed_at) == ("derive", 3, 1)
    assert (endpoints.recomputed, endpoints.unchanged, endpoints.failing) == (6, 3, 0)
    assert statistics.table("mesh").changed_at == 2
    assert statistics.seconds == sum(table.seconds for table in statistics.tables) > 0
    with pytest.raises(KeyError):
        statistics.table("nothing")


def test_a_dump_is_json_and_has_rows_reads_and_problems(mesh: Mesh) -> None:
    mesh.g.commit([Put(mesh.config, "domain", "broken")])
    dump = json.loads(json.dumps(mesh.g.dump()))
    tables = {table["name"]: table for table in dump["tables"]}

    assert dump["revision"] == 2
    assert tables["endpoints"]["using"] == {"pods": "pods", "mesh": "mesh"}
    assert tables["endpoints"]["primary"] == "services"
    assert tables["endpoints"]["failing"] == ["cart", "cart-too", "till"]
    assert tables["endpoints"]["rows"][0] == {
        "key": "cart",
        "row": ["cart-1", "cart-2"],
        "reads": [
            {"table": "mesh", "index": "key", "value": []},
            {"table": "pods", "index": "app.keys", "value": "cart"},
            {"table": "services", "index": "key", "value": "cart"},
        ],
    }
    assert tables["endpoints"]["problems"][0]["key"] == "cart"
    assert dump["problems"][0]["code"] == "Internal"


def test_a_dump_of_one_table_uses_the_encoder_it_is_given(mesh: Mesh) -> None:
    dump = mesh.g.dump(lambda row: f"<{row}>", table="pods")
    assert [table["name"] for table in dump["tables"]] == ["pods"]
    assert dump["tables"][0]["rows"][0] == {"key": "cart-1", "row": "<cart>", "reads": []}


def test_a_dump_shows_what_json_does_not_know_as_its_repr() -> None:
    g = Graph()
    things: Table[Ref, object] = g.input("things")
    g.commit([Put(things, Ref("Pod", "shop", "a"), 1j), Put(things, Ref("Pod", "shop", "b"), Origin("a.yaml", 3))])
    rows = json.loads(json.dumps(g.dump()))["tables"][0]["rows"]
    assert rows[0]["key"] == {"kind": "Pod", "namespace": "shop", "name": "a"}
    assert [row["row"] for row in rows] == ["1j", {"file": "a.yaml", "line": 3}]
