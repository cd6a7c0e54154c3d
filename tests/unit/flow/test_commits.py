"""Facts in, a revision out."""

from __future__ import annotations

import pytest

from meltemi.flow import CommitError, Delta, Graph, Put, Remove, Table


def table_of_words() -> tuple[Graph, Table[str, str]]:
    g = Graph()
    words: Table[str, str] = g.input("words", initial=lambda word: word[0])
    return g, words


def test_a_revision_says_which_rows_are_new_or_differ_and_which_are_gone() -> None:
    g, words = table_of_words()
    g.commit([Put(words, "a", "apple"), Put(words, "b", "berry")])

    revision = g.commit([Put(words, "a", "almond"), Put(words, "c", "cherry"), Remove(words, "b")])

    assert revision.number == 2
    assert revision.of(words) == Delta(changed={"a": "almond", "c": "cherry"}, removed={"b": "berry"})
    assert repr(revision) == "<Revision 2: words +2 -1>"


def test_a_commit_without_effect_is_empty_and_does_not_advance_the_number() -> None:
    g, words = table_of_words()
    g.commit([Put(words, "a", "apple")])

    for facts in ([], [Put(words, "a", "apple")], [Remove(words, "z")], [Put(words, "n", "new"), Remove(words, "n")]):
        revision = g.commit(facts)
        assert revision.is_empty
        assert revision.number == g.number == 1
        assert not revision.of(words)
    assert repr(revision) == "<Revision 1: no change>"


def test_the_last_fact_about_a_key_wins_within_a_batch() -> None:
    g, words = table_of_words()
    g.commit([Put(words, "a", "apple"), Remove(words, "a"), Put(words, "a", "almond")])
    assert words.items() == (("a", "almond"),)


def test_tables_without_changes_are_absent_from_a_revision() -> None:
    g, words = table_of_words()
    others: Table[str, int] = g.input("numbers")
    assert list(g.commit([Put(words, "a", "apple")]).changes) == ["words"]
    assert list(g.commit([Put(others, "one", 1), Put(words, "b", "berry")]).changes) == ["words", "numbers"]


def test_changes_are_listed_by_key_whatever_order_the_facts_came_in() -> None:
    g, words = table_of_words()
    revision = g.commit([Put(words, key, key) for key in ("c", "a", "b")])
    assert list(revision.of(words).changed) == ["a", "b", "c"]


def test_a_derived_table_takes_no_facts_and_nothing_of_the_batch_is_taken_either() -> None:
    g, words = table_of_words()
    lengths = g.derive("lengths", len, words)
    with pytest.raises(CommitError, match="not an input table of this graph"):
        g.commit([Put(words, "a", "apple"), Put(lengths, "a", 5)])
    assert len(words) == 0


def test_a_table_of_another_graph_takes_no_facts() -> None:
    g, _ = table_of_words()
    _, foreign = table_of_words()
    with pytest.raises(CommitError, match="not an input table of this graph"):
        g.commit([Put(foreign, "a", "apple")])


def test_none_is_not_a_row() -> None:
    g = Graph()
    words: Table[str, str | None] = g.input("words")
    with pytest.raises(CommitError, match="use Remove"):
        g.commit([Put(words, "a", None)])


def test_a_transform_cannot_commit() -> None:
    g, words = table_of_words()

    def meddle(word: str) -> str:
        g.commit([])
        return word

    g.derive("meddling", meddle, words)
    g.commit([Put(words, "a", "apple")])
    assert "in the middle of another commit" in g.problems()[0].message


def test_a_graph_whose_commit_was_interrupted_refuses_the_next() -> None:
    g, words = table_of_words()

    def interrupted(word: str) -> str:
        raise KeyboardInterrupt

    g.derive("interrupted", interrupted, words)
    with pytest.raises(KeyboardInterrupt):
        g.commit([Put(words, "a", "apple")])
    with pytest.raises(CommitError, match="broken"):
        g.commit([])
    assert "broken" in repr(g)


def test_tables_tell_their_state() -> None:
    g, words = table_of_words()
    g.commit([Put(words, "b", "berry"), Put(words, "a", "apple"), Put(words, "c", "almond")])

    assert repr(words) == "<Table words (input): 3 rows, indexes initial>"
    assert repr(g) == "<Graph at revision 1: 1 tables, 3 rows, 0 problems>"
    assert words.keys() == tuple(words) == ("a", "b", "c")
    assert words.all() == ("apple", "berry", "almond")
    assert words.by("initial", "a") == ("apple", "almond")
    assert words.keys_by("initial", "a") == ("a", "c")
    assert words.values_of("initial") == {"a", "b"}
    assert words.get("z") is None
    assert "b" in words
    assert len(words) == 3


def test_an_empty_table_is_still_a_table() -> None:
    _, words = table_of_words()
    assert words
