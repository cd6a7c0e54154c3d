"""`meltemi get`: objects by any name, as tables and as they are."""

from __future__ import annotations

import json

import pytest
import yaml

from .conftest import Mesh, pod, virtual_service


@pytest.fixture
def shop(mesh: Mesh) -> Mesh:
    mesh.namespace("bookshop")
    mesh.put(virtual_service())
    mesh.put(pod("reviews-1", labels={"app": "reviews"}))
    mesh.put(pod("ratings-1", labels={"app": "ratings"}))
    return mesh


def test_a_table_has_the_columns_of_the_kind(shop: Mesh) -> None:
    told = shop.run("get", "pods", "-n", "bookshop")
    assert told.rows[0] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert [row[0] for row in told.rows[1:]] == ["ratings-1", "reviews-1"]
    assert told.status == 0


@pytest.mark.parametrize(
    "name", ["vs", "virtualservice", "VirtualServices", "virtualservices.networking.istio.io", "vs.networking.istio.io"]
)
def test_a_kind_goes_by_all_its_names(shop: Mesh, name: str) -> None:
    told = shop.run("get", name, "-n", "bookshop")
    assert told.rows[1] == ["reviews", '["reviews"]', "0s"]


def test_all_namespaces_are_told_apart_by_a_column(shop: Mesh) -> None:
    told = shop.run("get", "vs", "-A")
    assert told.rows[0][0] == "NAMESPACE"
    assert told.rows[1][:2] == ["bookshop", "reviews"]


def test_wide_shows_every_column(shop: Mesh) -> None:
    assert "NOMINATED" in shop.run("get", "pods", "-n", "bookshop", "-o", "wide").out


def test_several_kinds_are_shown_one_below_the_other_with_full_names(shop: Mesh) -> None:
    told = shop.run("get", "vs,pods", "-n", "bookshop")
    assert "virtualservice.networking.istio.io/reviews" in told.out
    assert "\n\nNAME" in told.out
    assert "pod/reviews-1" in told.out


def test_objects_may_be_named_with_a_slash(shop: Mesh) -> None:
    told = shop.run("get", "pod/reviews-1", "vs/reviews", "-n", "bookshop", "-o", "name")
    assert told.out.splitlines() == ["pod/reviews-1", "virtualservice.networking.istio.io/reviews"]


def test_a_category_stands_for_its_kinds(shop: Mesh) -> None:
    assert "pod/ratings-1" in shop.run("get", "all", "-n", "bookshop", "-o", "name").out


def test_labels_select(shop: Mesh) -> None:
    told = shop.run("get", "pods", "-n", "bookshop", "-l", "app=reviews", "-o", "name")
    assert told.out == "pod/reviews-1\n"


def test_one_object_as_yaml_is_the_object_without_the_record_of_owners(shop: Mesh) -> None:
    told = yaml.safe_load(shop.run("get", "vs", "reviews", "-n", "bookshop", "-o", "yaml").out)
    assert told["spec"] == virtual_service()["spec"]
    assert "managedFields" not in told["metadata"]


def test_several_objects_as_json_are_a_list(shop: Mesh) -> None:
    told = json.loads(shop.run("get", "pods", "-n", "bookshop", "-o", "json").out)
    assert told["kind"] == "List"
    assert [item["metadata"]["name"] for item in told["items"]] == ["ratings-1", "reviews-1"]


def test_nothing_found_is_said_and_is_no_failure(shop: Mesh) -> None:
    told = shop.run("get", "pods")
    assert (told.status, told.out, told.err) == (0, "", "nothing found in the namespace default (-A looks in all)\n")


def test_an_unknown_kind_is_answered_with_the_closest(mesh: Mesh) -> None:
    told = mesh.run("get", "virtualservcies")
    assert told.status == 2
    assert told.err == "error: there is no kind 'virtualservcies' here\n  hint: did you mean 'virtualservices'?\n"


def test_a_name_that_does_not_exist_is_answered_with_the_closest(shop: Mesh) -> None:
    told = shop.run("get", "vs", "review", "-n", "bookshop")
    assert told.status == 1
    assert 'virtualservices.networking.istio.io "review" not found' in told.err
    assert "hint: did you mean 'reviews'?" in told.err


def test_a_name_that_exists_elsewhere_is_answered_with_its_namespace(shop: Mesh) -> None:
    told = shop.run("get", "vs", "reviews")
    assert "hint: there is one in the namespace bookshop: add -n bookshop" in told.err


def test_names_of_several_kinds_at_once_are_refused(mesh: Mesh) -> None:
    assert mesh.run("get", "pods,services", "a").status == 2
