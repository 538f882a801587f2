"""Positions of values in a JSON text."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oo_ml.files.json_places import find_line, find_position

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)
LAYOUTS = st.fixed_dictionaries({"indent": st.sampled_from([None, 0, 2, "\t"]), "ensure_ascii": st.booleans()})


def list_places(value: Any, place: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:  # noqa: ANN401 - JSON
    """Return the places of all values of a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(found for name, one in inner for found in list_places(one, (*place, name)))]


def parse_at(text: str, place: tuple[str | int, ...]) -> Any:  # noqa: ANN401 - JSON
    """Return the value that begins at the position of a place."""
    value, _ = json.JSONDecoder().raw_decode(text, find_position(text, place))
    return value


@given(DOCUMENTS, LAYOUTS, st.data())
def test_position_of_any_place(document: Any, layout: dict[str, Any], data: st.DataObject) -> None:  # noqa: ANN401
    """The text at the position of a place parses to the value there; its line is that of the position."""
    text = json.dumps(document, **layout)
    place = data.draw(st.sampled_from(list_places(document)))
    value = document
    for part in place:
        value = value[part]
    assert parse_at(text, place) == value
    assert find_line(text, place) == text[: find_position(text, place)].count("\n") + 1


@given(DOCUMENTS, LAYOUTS, st.data())
def test_position_of_a_place_without_a_value(document: Any, layout: dict[str, Any], data: st.DataObject) -> None:  # noqa: ANN401
    """The position of a value that is not there is that of the value around it."""
    text = json.dumps(document, **layout)
    place = data.draw(st.sampled_from(list_places(document)))
    beyond = (*place, "a name longer than any", 0)
    assert find_position(text, beyond) == find_position(text, place)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1, "a": 2}', 2),
        ('{"a": {"b": 1}, "\\u0061": {"b": 3}}', {"b": 3}),
        (' {"b": {"a": 0}, "a": [], "c": "a"}', []),
    ],
)
def test_repeated_names(text: str, value: object) -> None:
    """Of a name that stands twice in an object the last one counts, as in json.loads."""
    assert parse_at(text, ("a",)) == json.loads(text)["a"] == value


def test_repeated_name_without_the_inner_one() -> None:
    """A value in the first of two objects of one name is not there."""
    text = '{"a": {"b": 1}, "a": {"c": 2}}'
    assert parse_at(text, ("a", "b")) == {"c": 2}


def test_lines() -> None:
    """Lines are counted from 1; a name and a colon in a string are no name."""
    text = '\n{\n  "a": "{\\"b\\": [",\n  "b": [\n    1,\n    {"c": null}\n  ]\n}\n'
    assert [find_line(text, place) for place in ((), ("a",), ("b",), ("b", 0), ("b", 1, "c"))] == [2, 3, 4, 5, 6]
