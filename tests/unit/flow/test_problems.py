"""What is wrong is told as values, and one row that fails keeps nobody else from working."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from meltemi.base.problems import Problem, Severity
from meltemi.base.refs import Ref
from meltemi.flow import Graph, Put, Remove, Table, View, using


class Route(msgspec.Struct, frozen=True):
    ref: Ref
    host: str
    weight: int = 100


def route(name: str, host: str = "cart", weight: int = 100) -> Route:
    return Route(Ref("VirtualService", "shop", name), host, weight)


def routes_in(g: Graph) -> Table[str, Route]:
    return g.input("routes", host=lambda each: each.host)


def checked(each: Route) -> Iterator[int | Problem]:
    if each.weight > 100:
        yield Problem(ref=each.ref, path="spec.weight", message=f"{each.weight} is more than 100")
        return
    yield each.weight


def test_a_problem_stands_until_its_row_is_made_again_without_it() -> None:
    g = Graph()
    routes = routes_in(g)
    weights = g.derive("weights", checked, routes)

    revision = g.commit([Put(routes, "a", route("a", weight=101)), Put(routes, "b", route("b"))])
    assert revision.problems_changed == {Ref("VirtualService", "shop", "a")}
    assert [problem.message for problem in g.problems()] == ["101 is more than 100"]
    assert weights.problems("a") == g.problems_of(Ref("VirtualService", "shop", "a")) == g.problems()
    assert weights.keys() == ("b",)

    assert g.commit([Put(routes, "a", route("a"))]).problems_changed == {Ref("VirtualService", "shop", "a")}
    assert g.problems() == ()


def test_a_problem_goes_with_its_row() -> None:
    g = Graph()
    routes = routes_in(g)
    g.derive("weights", checked, routes)
    g.commit([Put(routes, "a", route("a", weight=101))])
    g.commit([Remove(routes, "a")])
    assert g.problems() == ()


def test_a_change_of_problems_alone_is_a_revision() -> None:
    g = Graph()
    routes = routes_in(g)
    limits: Table[str, int] = g.input("limits")

    def limited(each: Route, *, limits: View[str, int]) -> Iterator[str | Problem]:
        if each.weight > (limits.get("weight") or 100):
            yield Problem(ref=each.ref, message="too heavy", severity=Severity.WARNING)
        yield each.host

    table = g.derive("limited", limited, routes, using(limits=limits))
    g.commit([Put(routes, "a", route("a"))])
    revision = g.commit([Put(limits, "weight", 50)])
    assert not revision.of(table)
    assert not revision.is_empty
    assert revision.problems_changed == {Ref("VirtualService", "shop", "a")}


def test_what_two_rows_tell_of_one_object_is_told_once() -> None:
    g = Graph()
    routes = routes_in(g)
    g.derive("one", checked, routes)
    g.derive("other", checked, routes)
    g.commit([Put(routes, "a", route("a", weight=101))])
    assert len(g.problems()) == 1
    assert repr(g).endswith("1 problems>")


def test_a_row_whose_transform_raises_stays_as_it_was_last_good() -> None:
    g = Graph()
    routes = routes_in(g)
    inverse = g.derive("inverse", lambda each: 100 / each.weight, routes)
    doubled = g.derive("doubled", lambda each: each * 2, inverse)
    g.commit([Put(routes, "a", route("a", weight=50)), Put(routes, "b", route("b", weight=25))])

    revision = g.commit([Put(routes, "a", route("a", weight=0)), Put(routes, "b", route("b", weight=10))])

    assert inverse.items() == (("a", 2.0), ("b", 10.0))
    assert doubled.get("a") == 4.0
    assert revision.of(doubled).changed == {"b": 20.0}
    assert inverse.is_failing("a")
    assert not inverse.is_failing("b")
    assert repr(inverse) == "<Table inverse (derive): 2 rows, 1 failing>"


def test_an_exception_becomes_an_internal_problem_of_the_users_object() -> None:
    g = Graph()
    routes = routes_in(g)
    g.derive("inverse", lambda each: 100 / each.weight, routes)
    g.commit([Put(routes, "a", route("a", weight=0))])

    (problem,) = g.problems()
    assert problem.ref == Ref("VirtualService", "shop", "a")
    assert problem.code == "Internal"
    assert problem.message.startswith(
        "inverse could not be made: ZeroDivisionError: division by zero (test_problems.py:"
    )
    assert "report it" in problem.hint


def test_a_failing_row_recovers_when_what_it_read_changes() -> None:
    g = Graph()
    routes = routes_in(g)
    known: Table[str, int] = g.input("known")

    def resolved(each: Route, *, known: View[str, int]) -> int:
        found = known.get(each.host)
        if found is None:
            raise LookupError(each.host)
        return found

    table = g.derive("resolved", resolved, routes, using(known=known))
    g.commit([Put(routes, "a", route("a"))])
    assert len(g.problems()) == 1
    assert len(table) == 0

    g.commit([Put(known, "cart", 1)])
    assert g.problems() == ()
    assert table.items() == (("a", 1),)
    assert not table.is_failing("a")


def test_the_last_good_row_goes_when_its_primary_row_goes() -> None:
    g = Graph()
    routes = routes_in(g)
    inverse = g.derive("inverse", lambda each: 100 / each.weight, routes)
    g.commit([Put(routes, "a", route("a"))])
    g.commit([Put(routes, "a", route("a", weight=0))])
    g.commit([Remove(routes, "a")])
    assert len(inverse) == 0
    assert g.problems() == ()


def test_an_expansion_that_raises_half_way_keeps_all_it_made_before() -> None:
    g = Graph()
    routes = routes_in(g)

    def hosts(each: Route) -> Iterator[tuple[str, int] | Problem]:
        yield each.host, each.weight
        yield Problem(ref=each.ref, message="said before the fall", severity=Severity.INFO)
        yield f"{each.host}.shop", 100 // each.weight

    table = g.expand("hosts", hosts, routes)
    g.commit([Put(routes, "a", route("a", "cart", 50))])
    g.commit([Put(routes, "a", route("a", "till", 0))])

    assert table.items() == (("cart", 50), ("cart.shop", 2))
    assert [problem.code for problem in table.problems("a")] == ["Invalid", "Internal"]


def test_a_fact_that_an_index_fails_on_is_set_aside_and_the_one_before_it_stands() -> None:
    g = Graph()
    numbers: Table[str, int] = g.input("numbers", share=lambda number: 100 // number)
    g.commit([Put(numbers, "a", 50)])
    g.commit([Put(numbers, "a", 0), Put(numbers, "b", 10)])

    assert numbers.items() == (("a", 50), ("b", 10))
    assert numbers.is_failing("a")
    (problem,) = g.problems()
    assert problem.ref == Ref("Table", "", "numbers/a")
    assert "ZeroDivisionError" in problem.message

    g.commit([Put(numbers, "a", 50)])
    assert g.problems() == ()


def test_a_row_that_an_index_fails_on_is_set_aside() -> None:
    g = Graph()
    routes = routes_in(g)
    weights = g.derive("weights", lambda each: each.weight, routes, share=lambda weight: 100 // weight)
    g.commit([Put(routes, "a", route("a", weight=50))])
    g.commit([Put(routes, "a", route("a", weight=0))])
    assert weights.by("share", 2) == (50,)
    assert len(g.problems()) == 1


def test_of_different_rows_under_one_key_that_of_the_smallest_primary_key_stands() -> None:
    g = Graph()
    routes = routes_in(g)
    hosts = g.expand("hosts", lambda each: [(each.host, each.weight)], routes)
    g.commit([Put(routes, "b", route("b", weight=2)), Put(routes, "c", route("c", weight=3))])
    assert hosts.get("cart") == 2

    g.commit([Put(routes, "a", route("a", weight=1))])
    assert hosts.get("cart") == 1
    assert [(problem.ref.name, problem.code) for problem in g.problems()] == [("b", "Conflict"), ("c", "Conflict")]
    assert g.problems()[0].message == (
        "hosts cart is also made, differently, by VirtualService shop/a, which takes precedence"
    )

    g.commit([Remove(routes, "a"), Put(routes, "c", route("c", weight=2))])
    assert hosts.get("cart") == 2
    assert g.problems() == ()


def test_a_conflict_names_the_objects_as_they_are_called_now() -> None:
    g = Graph()
    routes = routes_in(g)
    g.expand("hosts", lambda each: [(each.host, each.weight)], routes)
    g.commit([Put(routes, "a", route("a", weight=1)), Put(routes, "b", route("b", weight=2))])
    g.commit([Put(routes, "a", route("renamed", weight=1))])
    assert "by VirtualService shop/renamed" in g.problems()[0].message


def test_one_object_that_makes_two_different_rows_under_one_key_is_told_so() -> None:
    g = Graph()
    routes = routes_in(g)
    hosts = g.expand("hosts", lambda each: [(each.host, 1), (each.host, 2), (each.host, 1)], routes)
    g.commit([Put(routes, "a", route("a"))])
    assert hosts.get("cart") == 1
    assert g.problems()[0].message == "hosts cart is made twice and differently; the first takes precedence"


def test_yielding_two_rows_where_one_is_due_is_a_fault() -> None:
    g = Graph()
    routes = routes_in(g)

    def two(each: Route) -> Iterator[int | Problem]:
        yield 1
        yield 2

    table = g.derive("two", two, routes)
    g.commit([Put(routes, "a", route("a"))])
    assert len(table) == 0
    assert "yielded more than one row" in g.problems()[0].message


def test_a_failing_single_is_reported_under_its_own_name() -> None:
    g = Graph()
    routes = routes_in(g)
    g.single("first", lambda *, routes: routes.all()[0], using(routes=routes))
    g.commit([])
    assert g.problems()[0].ref == Ref("Table", "", "first")
    g.commit([Put(routes, "a", route("a"))])
    assert g.problems() == ()
