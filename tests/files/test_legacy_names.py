"""Whose a file is: certain, or one of several, or nobody's."""

import pytest

from oo_ml.files.legacy_names import index, is_name, owners


@pytest.mark.parametrize(("name", "expected"), [("ada", ["ada"]), ("a_b", []), ("", []), ("zoë", [])])
def test_without_a_list_only_a_name_of_letters_and_digits_tells_its_id(name: str, expected: list[str]) -> None:
    """Whatever an id held, nothing was replaced in such a name; a file system may respell an ë."""
    assert list(owners(name, None)) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("ada", ["ada"]), ("bob", []), ("a_b", ["a.b", "a b", "a_b"]), ("me_home_org", ["me@home.org"])],
)
def test_a_list_says_who_there_is(name: str, expected: list[str]) -> None:
    """Several ids can share a name, and a name that is its own id is still nobody's unless it is listed."""
    ids = index(["ada", "a.b", "a b", "a_b", "me@home.org"], ["ada", "a_b"])
    assert list(owners(name, ids)) == expected


def test_an_accented_letter_counts_as_the_file_names_show() -> None:
    """Where a file name has kept one, each keeps its own name; where none has, it may have been replaced."""
    kept = index(["zoë", "zo-"], ["zoë", "zo_"])
    assert [list(owners(name, kept)) for name in ("zoë", "zo_")] == [["zoë"], ["zo-"]]
    replaced = index(["zoë", "zo-", "noël"], ["zo_", "no_l"])
    assert [list(owners(name, replaced)) for name in ("zo_", "no_l")] == [["zoë", "zo-"], ["noël"]]


@pytest.mark.parametrize(
    ("stem", "expected"), [("a_1", True), ("zoë", True), ("", False), ("a.b", False), ("a b", False)]
)
def test_other_names_are_no_names(stem: str, expected: bool) -> None:
    """What the replacement would have replaced can't be in its result."""
    assert is_name(stem) is expected
