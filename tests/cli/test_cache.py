"""`runner cache` lists what is kept and clears it."""

from runner.data import cache
from tests.conftest import Project


def entry(name: str) -> None:
    """An entry of the cache."""
    cache.kept(name * 16, lambda folder: {"datasets": ["a.jsonl"], "rows": 3, "tokens": 1234, "note": str(folder)})


def test_entries_are_listed_and_cleared(project: Project) -> None:
    """By key, by age, or all; no heavy import for it."""
    for name in ("a", "b"):
        entry(name)
    code, out, _ = project.call("cache")
    assert code == 0 and "aaaaaaaaaaaaaaaa" in out and "1,234 tokens" in out and ": 2 entries" in out
    assert out.count("used just now") == 2
    assert project.call("cache", "clear", "--older-than", "1")[1].startswith("0 entries removed")
    assert project.call("cache", "clear", "bbb")[1].startswith("1 entries removed")
    assert project.call("cache", "clear")[1].startswith("1 entries removed")
    assert ": 0 entries" in project.call("cache")[1]


def test_what_means_nothing_is_refused(project: Project) -> None:
    """With what can be said instead."""
    for words, sentence in (
        (["cache", "delete"], "cannot do 'delete'"),
        (["cache", "clear", "zzz"], "no entry 'zzz'"),
        (["cache", "clear", "--older", "1"], "takes no flag --older"),
        (["cache", "clear", "--older-than", "x"], "Give a number of days"),
        (["cache", "clear", "--older-than", "-1"], "-1 is no age"),  # all were removed
        (["cache", "clear", "--older-than", "nan"], "nan is no age"),
    ):
        code, _, err = project.call(*words)
        assert code == 2 and sentence in err and err.count("\n") == 1
