"""The owner of a file by its name: certain, one of several users, or unknown."""

import pytest

from oo_ml.files.legacy_names import find_owners, index_ids, is_name


@pytest.mark.parametrize(("name", "expected"), [("ada", ["ada"]), ("a_b", []), ("", []), ("zoë", [])])
def test_owners_without_a_list(name: str, expected: list[str]) -> None:
    """Without a list, only a name of ASCII letters and digits is taken for its id; a file system may respell an ë."""
    assert list(find_owners(name, None)) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("ada", ["ada"]), ("bob", []), ("a_b", ["a.b", "a b", "a_b"]), ("me_home_org", ["me@home.org"])],
)
def test_owners_with_a_list(name: str, expected: list[str]) -> None:
    """With a list, only listed ids own files, and several ids can share a name."""
    ids = index_ids(["ada", "a.b", "a b", "a_b", "me@home.org"], ["ada", "a_b"])
    assert list(find_owners(name, ids)) == expected


def test_accented_letters() -> None:
    """Accented letters were kept if any file name has one; otherwise they may have been replaced."""
    kept = index_ids(["zoë", "zo-"], ["zoë", "zo_"])
    assert [list(find_owners(name, kept)) for name in ("zoë", "zo_")] == [["zoë"], ["zo-"]]
    replaced = index_ids(["zoë", "zo-", "noël"], ["zo_", "no_l"])
    assert [list(find_owners(name, replaced)) for name in ("zo_", "no_l")] == [["zoë", "zo-"], ["noël"]]


@pytest.mark.parametrize(
    ("stem", "expected"), [("a_1", True), ("zoë", True), ("", False), ("a.b", False), ("a b", False)]
)
def test_names_of_files(stem: str, expected: bool) -> None:
    """A character that the file-based service replaces is in no name that it gives."""
    assert is_name(stem) is expected
