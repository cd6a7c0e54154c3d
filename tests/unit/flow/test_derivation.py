"""Tables that follow from tables: which rows there are, and which are made again when something changes."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from meltemi.base.problems import Problem
from meltemi.flow import Graph, Put, Remove, Table, View, using


class Pod(msgspec.Struct, frozen=True):
    name: str
    namespace: str = "shop"
    app: str = ""
    note: str = ""


class Counting:
    """Tells for which rows a transform was called since last asked."""

    def __init__(self) -> None:
        self._calls: list[object] = []

    def saw(self, what: object) -> None:
        self._calls.append(what)

    def calls(self) -> list[object]:
        calls, self._calls = self._calls, []
        return calls


class Shop:
    """Pods in namespaces, and who looked at whom."""

    def __init__(self) -> None:
        self.g = Graph()
        self.pods: Table[str, Pod] = self.g.input("pods", app=lambda pod: pod.app, namespace=lambda pod: pod.namespace)
        self.labels: Table[str, str] = self.g.input("labels")
        self.count = Counting()

    def put(self, *pods: Pod) -> None:
        self.g.commit([Put(self.pods, pod.name, pod) for pod in pods])


def test_derive_makes_one_row_per_row_under_the_same_key() -> None:
    shop = Shop()
    shouted = shop.g.derive("shouted", lambda pod: pod.app.upper() or None, shop.pods)
    shop.put(Pod("a", app="cart"), Pod("b"))

    assert shouted.items() == (("a", "CART"),)
    shop.g.commit([Remove(shop.pods, "a"), Put(shop.pods, "b", Pod("b", app="till"))])
    assert shouted.items() == (("b", "TILL"),)


def test_only_rows_that_read_what_changed_are_made_again() -> None:
    shop = Shop()

    def labelled(pod: Pod, *, labels: View[str, str]) -> str | None:
        shop.count.saw(pod.name)
        return labels.get(pod.app)

    table = shop.g.derive("labelled", labelled, shop.pods, using(labels=shop.labels))
    shop.put(Pod("a", app="cart"), Pod("b", app="till"), Pod("c", app="cart"))
    assert shop.count.calls() == ["a", "b", "c"]

    shop.g.commit([Put(shop.labels, "cart", "v1")])
    assert shop.count.calls() == ["a", "c"]
    assert table.items() == (("a", "v1"), ("c", "v1"))

    shop.g.commit([Put(shop.labels, "elsewhere", "v1")])
    assert shop.count.calls() == []


def test_a_row_no_longer_depends_on_what_it_no_longer_reads() -> None:
    shop = Shop()

    def follow(pod: Pod, *, labels: View[str, str]) -> str | None:
        shop.count.saw(pod.name)
        return labels.get(pod.app)

    shop.g.derive("followed", follow, shop.pods, using(labels=shop.labels))
    shop.put(Pod("a", app="old"))
    shop.put(Pod("a", app="new"))
    shop.count.calls()

    shop.g.commit([Put(shop.labels, "old", "x")])
    assert shop.count.calls() == []
    shop.g.commit([Put(shop.labels, "new", "x")])
    assert shop.count.calls() == ["a"]


def test_an_equal_result_stops_the_change() -> None:
    shop = Shop()
    apps = shop.g.derive("apps", lambda pod: pod.app, shop.pods)
    lengths = shop.g.derive("lengths", lambda app: shop.count.saw(app) or len(app), apps)
    shop.put(Pod("a", app="cart"))
    shop.count.calls()

    revision = shop.g.commit([Put(shop.pods, "a", Pod("a", app="cart", note="of no consequence"))])

    assert list(revision.changes) == ["pods"]
    assert shop.count.calls() == []
    assert lengths.get("a") == 4


def test_a_row_is_made_once_per_commit_after_everything_it_reads() -> None:
    shop = Shop()
    names = shop.g.derive("names", lambda pod: pod.name, shop.pods)
    apps = shop.g.derive("apps", lambda pod: pod.app, shop.pods)

    def both(name: str, *, apps: View[str, str], pods: View[str, Pod]) -> tuple[str, str]:
        shop.count.saw(name)
        pod, app = pods.get(name), apps.get(name)
        assert pod is not None
        assert pod.app == app
        return name, app

    table = shop.g.derive("both", both, names, using(apps=apps, pods=shop.pods))
    shop.put(Pod("a", app="cart"))
    shop.put(Pod("a", app="till"))

    assert shop.count.calls() == ["a", "a"]
    assert table.get("a") == ("a", "till")
    assert shop.g.problems() == ()


def test_a_bucket_depends_on_its_members_and_not_on_its_neighbours() -> None:
    shop = Shop()

    def in_namespace(label: str, *, pods: View[str, Pod]) -> tuple[str, ...]:
        shop.count.saw(label)
        return tuple(pod.note for pod in pods.by("namespace", label))

    table = shop.g.derive("notes", in_namespace, shop.labels, using(pods=shop.pods))
    shop.g.commit([Put(shop.labels, "shop", "shop"), Put(shop.labels, "bank", "bank")])
    shop.count.calls()

    shop.put(Pod("b", "shop", note="2"), Pod("a", "shop", note="1"))
    assert shop.count.calls() == ["shop"]
    assert table.get("shop") == ("1", "2")

    shop.put(Pod("a", "bank", note="moved"))
    assert shop.count.calls() == ["bank", "shop"]
    assert table.items() == (("bank", ("moved",)), ("shop", ("2",)))


def test_reading_keys_depends_on_who_is_there_and_not_on_what_they_are() -> None:
    shop = Shop()

    def who(label: str, *, pods: View[str, Pod]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        shop.count.saw(label)
        return pods.keys_by("namespace", label), pods.keys()

    table = shop.g.derive("who", who, shop.labels, using(pods=shop.pods))
    shop.g.commit([Put(shop.labels, "shop", "shop")])
    shop.put(Pod("a", "shop"), Pod("b", "shop"))
    shop.count.calls()

    shop.put(Pod("a", "shop", app="cart", note="amended"))
    assert shop.count.calls() == []
    shop.g.commit([Remove(shop.pods, "a")])
    assert shop.count.calls() == ["shop"]
    assert table.get("shop") == (("b",), ("b",))


def test_single_makes_one_row_even_before_there_are_facts() -> None:
    shop = Shop()

    def busiest(*, pods: View[str, Pod]) -> str:
        return max((pod.app for pod in pods.all()), default="nobody")

    single = shop.g.single("busiest", busiest, using(pods=shop.pods))
    reader = shop.g.derive(
        "reader", lambda pod, *, busiest: (pod.name, busiest.only()), shop.pods, using(busiest=single)
    )

    assert shop.g.commit([]).number == 1
    assert single.only() == "nobody"
    shop.put(Pod("a", app="cart"))
    assert single.one(None) == "cart"
    assert reader.get("a") == ("a", "cart")


def test_gather_makes_one_row_per_value_of_an_index() -> None:
    shop = Shop()

    def port(app: str, rows: tuple[Pod, ...]) -> tuple[str, ...] | None:
        return tuple(pod.name for pod in rows) if app else None

    table = shop.g.gather("apps", port, shop.pods, "app", size=len)
    shop.put(Pod("b", app="cart"), Pod("a", app="cart"), Pod("c", app="till"), Pod("d"))
    assert table.items() == (("cart", ("a", "b")), ("till", ("c",)))
    assert table.by("size", 2) == (("a", "b"),)

    revision = shop.g.commit([Put(shop.pods, "c", Pod("c", app="cart"))])
    assert table.items() == (("cart", ("a", "b", "c")),)
    assert revision.of(table).removed == {"till": ("c",)}


def test_expand_makes_as_many_rows_as_the_transform_yields() -> None:
    shop = Shop()

    def words(pod: Pod) -> Iterator[tuple[str, str] | Problem]:
        for word in pod.note.split():
            yield f"{pod.name}/{word}", word

    table = shop.g.expand("words", words, shop.pods, initial=lambda word: word[0])
    shop.put(Pod("a", note="to be or not"), Pod("b", note="tea"))
    assert table.by("initial", "t") == ("to", "tea")

    revision = shop.g.commit([Put(shop.pods, "a", Pod("a", note="to see"))])
    assert revision.of(table).changed == {"a/see": "see"}
    assert set(revision.of(table).removed) == {"a/be", "a/or", "a/not"}


def test_a_row_that_two_objects_make_alike_stands_until_neither_does() -> None:
    shop = Shop()
    hosts = shop.g.expand("hosts", lambda pod: [(pod.app, pod.app)], shop.pods)
    shop.put(Pod("a", app="cart"), Pod("b", app="cart"))

    assert not shop.g.commit([Remove(shop.pods, "a")]).of(hosts)
    assert hosts.items() == (("cart", "cart"),)
    assert shop.g.commit([Remove(shop.pods, "b")]).of(hosts).removed == {"cart": "cart"}


def test_a_table_declared_after_commits_is_made_in_the_next() -> None:
    shop = Shop()
    shop.put(Pod("a", app="cart"))
    late = shop.g.derive("late", lambda pod: pod.app, shop.pods)
    assert shop.g.commit([]).of(late).changed == {"a": "cart"}


def test_a_transform_may_yield_its_row() -> None:
    shop = Shop()

    def yielding(pod: Pod) -> Iterator[str | Problem]:
        if pod.app:
            yield pod.app

    table = shop.g.derive("yielded", yielding, shop.pods)
    shop.put(Pod("a", app="cart"), Pod("b"))
    assert table.items() == (("a", "cart"),)
