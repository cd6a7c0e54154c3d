"""A wrong declaration is refused where it is made, in words that say what to mend."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from meltemi.flow import DeclarationError, Graph, Put, Table, View, using


def looked_up(word: str, *, book: View[str, str]) -> str | None:
    return book.get(word)


def words_and_book() -> tuple[Graph, Table[str, str], Table[str, str]]:
    g = Graph()
    return g, g.input("words", initial=lambda word: word[0]), g.input("book")


def test_a_parameter_that_nobody_gives_is_named() -> None:
    g, words, _ = words_and_book()
    with pytest.raises(DeclarationError, match=r"looked_up wants 'book', which is missing from using\(\)"):
        g.derive("found", looked_up, words)


def test_a_table_that_nobody_takes_is_named() -> None:
    g, words, book = words_and_book()
    with pytest.raises(DeclarationError, match=r"names 'other', but looked_up has no such parameter"):
        g.derive("found", looked_up, words, using(book=book, other=words))


def test_a_transform_must_take_its_row() -> None:
    g, words, _ = words_and_book()
    transform: Any = lambda *, book: book  # noqa: E731
    with pytest.raises(DeclarationError, match="must take 1 positional argument"):
        g.derive("found", transform, words)
    with pytest.raises(DeclarationError, match="must take 2 positional argument"):
        g.gather("gathered", lambda value: value, words, "initial")  # type: ignore[arg-type, misc]


def test_a_parameter_with_a_default_and_a_partial_need_no_table() -> None:
    g, words, book = words_and_book()

    def prefixed(word: str, *, book: View[str, str], prefix: str = "-") -> str:
        return prefix + (book.get(word) or word)

    plain = g.derive("plain", prefixed, words, using(book=book))
    starred = g.derive("starred", partial(prefixed, prefix="*"), words, using(book=book))
    g.commit([Put(words, "a", "apple")])
    assert plain.get("a") == "-apple"
    assert starred.get("a") == "*apple"


def test_a_transform_can_read_only_tables_declared_before_it() -> None:
    g, words, _ = words_and_book()
    foreign: Table[str, str] = Graph().input("foreign")
    with pytest.raises(DeclarationError, match="was not declared before it in this graph"):
        g.derive("found", looked_up, words, using(book=foreign))
    with pytest.raises(DeclarationError, match="was not declared before it in this graph"):
        g.derive("found", str.upper, foreign)


def test_what_is_not_a_table_cannot_be_read() -> None:
    g, words, _ = words_and_book()
    not_a_table: Any = {"a": "apple"}
    with pytest.raises(DeclarationError, match="is not a table"):
        g.derive("found", looked_up, words, using(book=not_a_table))


def test_two_tables_cannot_have_one_name() -> None:
    g, words, _ = words_and_book()
    with pytest.raises(DeclarationError, match="two tables called 'words'"):
        g.derive("words", str.upper, words)


def test_an_index_cannot_be_called_as_the_engine_calls_its_own_reads() -> None:
    g, _, _ = words_and_book()
    with pytest.raises(DeclarationError, match="may not be called 'all'"):
        g.input("more", all=lambda row: row)


def test_gather_needs_an_index_of_its_primary() -> None:
    g, words, _ = words_and_book()
    with pytest.raises(DeclarationError, match="has no index 'length' to gather by"):
        g.gather("gathered", lambda value, rows: len(rows), words, "length")


def test_a_failed_declaration_leaves_no_trace() -> None:
    g, words, book = words_and_book()
    with pytest.raises(DeclarationError):
        g.derive("found", looked_up, words)
    found = g.derive("found", looked_up, words, using(book=book))
    assert g.tables == (words, book, found)
    assert g.table("found") is found


def test_a_transform_cannot_declare_tables() -> None:
    g, words, _ = words_and_book()

    def declaring(word: str) -> str:
        g.input(f"table of {word}")
        return word

    g.derive("declaring", declaring, words)
    g.commit([Put(words, "a", "apple")])
    assert "was declared by a transform" in g.problems()[0].message
