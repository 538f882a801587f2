"""Tips in the JSON of a reply: their check, their ids, and the schema."""

import json
from typing import Any

import jsonschema_rs
import pytest

from oo_ml.domain.tips import FIELDS, GeneratedTip, ReplyError, has_known_fields_only, read_tips, tips_schema

NOT_AN_ARRAY = "The reply is not a JSON array; put the objects into an array, even if there is only one."
NOT_AN_ID = '"id" of entry 0 is not a string of 1 to 200 bytes on one line.'


def contents(value: object, n: int = 5) -> list[str]:
    """Return the contents of the tips."""
    return [tip.content for tip in read_tips(value, n)]


def ids(value: object) -> list[str]:
    """Return the ids of the tips."""
    return [tip.id for tip in read_tips(value, 9)]


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({}, NOT_AN_ARRAY),
        (None, NOT_AN_ARRAY),
        ("Walk.", NOT_AN_ARRAY),
        ({"content": "Walk."}, NOT_AN_ARRAY),
        ({"tips": []}, NOT_AN_ARRAY),
        ({"a": [{"content": "a"}], "b": [{"content": "b"}]}, NOT_AN_ARRAY),
        ({"a": {"b": [{"content": "a"}]}, "c": {}}, NOT_AN_ARRAY),
        ([], "The array is empty."),
        (["Walk."], 'Entry 0 of the array is not an object with "id", "content" and "rationale".'),
        ([[]], 'Entry 0 of the array is not an object with "id", "content" and "rationale".'),
        ([{}], '"content" of entry 0 is not a string.'),
        ([{"content": None}], '"content" of entry 0 is not a string.'),
        ([{"content": ["Walk."]}], '"content" of entry 0 is not a string.'),
        ([{"content": "a"}, {"content": " \n "}], '"content" of entry 1 is blank.'),
        ([{"content": "a\0b"}], '"content" of entry 0 holds characters that are not text.'),
        ([{"content": "\ud800"}], '"content" of entry 0 holds characters that are not text.'),
        ([{"content": "a", "rationale": 1}], '"rationale" of entry 0 is not a string.'),
        ([{"content": "x" * 4_001}], '"content" of entry 0 is longer than 4000 characters.'),
        ([{"content": "a", "id": True}], NOT_AN_ID),
        ([{"content": "a", "id": 1.5}], NOT_AN_ID),
        ([{"content": "a", "id": ""}], NOT_AN_ID),
        ([{"content": "a", "id": "a\nb"}], NOT_AN_ID),
        ([{"content": "a", "id": 10**200}], NOT_AN_ID),
        (
            [{"content": "a", "id": "x"}, {"content": "b", "id": "x"}],
            'The id "x" is used twice; give each tip an id of its own.',
        ),
        (
            [{"content": "a", "id": "1"}, {"content": "b", "id": 1}],
            'The id "1" is used twice; give each tip an id of its own.',
        ),
    ],
)
def test_refused_values(value: object, complaint: str) -> None:
    """Each kind of mistake has its own message."""
    with pytest.raises(ReplyError) as caught:
        read_tips(value, 5)
    assert str(caught.value) == complaint


@pytest.mark.parametrize(
    "value",
    [
        {"tips": [{"content": "a"}]},
        {"note": "Enjoy.", "count": 1, "candidates": [{"content": "a"}], "tags": ["x"]},
        {"result": {"tips": [{"content": "a"}]}},
        {"content": [{"content": "a"}]},
    ],
)
def test_object_around_the_array(value: object) -> None:
    """The only array of objects in an object is the array, whatever its name."""
    assert contents(value) == ["a"]


def test_missing_ids_and_rationales() -> None:
    """A missing id is made from the index in the reply, and a number becomes text; a rationale is optional."""
    entries = [{"content": "a"}, {"id": None, "content": "b", "rationale": None}, {"id": 7, "content": "c"}]
    assert read_tips(entries, 3) == (
        GeneratedTip("tip-0", "a", None),
        GeneratedTip("tip-1", "b", None),
        GeneratedTip("7", "c", None),
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["tip-1", None], ["tip-1", "tip-2"]),
        ([None, "tip-0"], ["tip-2", "tip-0"]),
        ([None, None, "tip-0", "tip-1", "tip-5"], ["tip-6", "tip-7", "tip-0", "tip-1", "tip-5"]),
        ([None, "tip-0", None, "tip-2"], ["tip-4", "tip-0", "tip-5", "tip-2"]),
        (["tip-2", "tip-3", None], ["tip-2", "tip-3", "tip-4"]),
    ],
)
def test_made_ids_never_collide(given: list[str | None], expected: list[str]) -> None:
    """An id that the service makes differs from all others; only one that the reply uses differs from its default."""
    assert ids([{"id": one, "content": "a"} for one in given]) == expected


def test_more_tips_than_requested() -> None:
    """The first n tips are used; later entries are not even checked, and their ids are free."""
    entries: list[Any] = [{"content": "a"}, {"content": "b"}, {"content": "c", "id": "tip-0"}, 7]
    assert contents(entries[:3], 2) == ["a", "b"]
    assert [tip.id for tip in read_tips(entries, 2)] == ["tip-0", "tip-1"]


def test_known_fields() -> None:
    """A field that tips don't have is noticed, in an object around the array too."""
    assert has_known_fields_only([dict.fromkeys(FIELDS, "x"), {}])
    assert has_known_fields_only({"tips": [{"content": "a"}]})
    assert not has_known_fields_only([{"content": "a"}, {"content": "b", "score": 1}])
    assert not has_known_fields_only([{"content": "a"}, "b"])
    assert not has_known_fields_only("a")


@pytest.mark.parametrize("bounded", [True, False])
def test_schema_of_replies(bounded: bool) -> None:
    """The schema accepts what `read_tips` reads, and refuses other fields; with bounds, also another number of tips."""
    schema = tips_schema(2, bounded=bounded)
    tip = {"content": "a", "rationale": "b"}
    assert (schema["type"], schema["additionalProperties"], schema["required"]) == ("object", False, ["tips"])
    assert jsonschema_rs.is_valid(schema, {"tips": [tip, tip]})
    assert contents({"tips": [tip, tip]}) == ["a", "a"]
    for wrong in ([tip], {"tips": [tip, {**tip, "id": "x"}]}, {"tips": [tip, {"content": "a"}]}, {"tips": [], "a": 1}):
        assert not jsonschema_rs.is_valid(schema, wrong)
    for outside in ({"tips": [tip]}, {"tips": [tip] * 3}, {"tips": [tip, {**tip, "content": "x" * 301}]}):
        assert jsonschema_rs.is_valid(schema, outside) is not bounded


def test_portable_schema() -> None:
    """Without bounds the schema has only keywords that strict providers accept."""
    keywords = json.dumps(tips_schema(3, bounded=False))
    assert not any(word in keywords for word in ("minItems", "maxItems", "minLength", "maxLength"))
