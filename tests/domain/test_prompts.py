"""Replies of the language model, and lists of prompt versions."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oo_ml.domain.identifiers import is_identifier, is_storable
from oo_ml.domain.prompts import (
    MAX_TEXT_CHARACTERS,
    GeneratedTip,
    ReplyError,
    parse_reply,
    parse_versions,
    tips_schema,
    write_correction,
)

ARRAY = '[{"id": "walk", "content": "Walk a little.", "rationale": "Sun."}]'
WALK = GeneratedTip("walk", "Walk a little.", "Sun.")

ANY_TEXT = st.text(st.characters())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=20,
)
ID = st.text("abcé-/ ", min_size=1, max_size=9)
ENTRY = st.fixed_dictionaries({}, optional={"id": JSON, "content": JSON, "rationale": JSON}) | JSON
REPLY = st.builds(
    lambda before, entries, after: f"{before}{json.dumps(entries)}{after}",
    st.sampled_from(["", "```json\n", "```\n", "Here: ```", " \n", "prose "]) | ANY_TEXT,
    st.lists(ENTRY, max_size=5) | ENTRY,
    st.sampled_from(["", "\n```", "```\nbye", " ", "\n``` ```"]) | ANY_TEXT,
)


@pytest.mark.parametrize(
    "text",
    [
        ARRAY,
        f"\n  {ARRAY}\n",
        f"```json\n{ARRAY}\n```",
        f"```JSON {ARRAY}```",
        f"```{ARRAY}```",
        f"Here you are:\n\n```\n{ARRAY}\n```\nHave a good day [really].",
    ],
)
def test_array_alone_or_in_a_fence(text: str) -> None:
    """Space around the array and prose around a fence are ignored."""
    assert parse_reply(text, 3) == (WALK,)


@pytest.mark.parametrize("where", ["{}", "```json\n{}\n```"])
def test_fence_inside_a_tip(where: str) -> None:
    """Three backticks inside a string are a part of the tip."""
    content = "Write ```x``` in the file."

    [tip] = parse_reply(where.replace("{}", json.dumps([{"content": content}])), 1)

    assert tip.content == content


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "The reply is not JSON: Expecting value at line 1, column 1."),
        ("Sure, here is a tip.", "The reply is not JSON: Expecting value at line 1, column 1."),
        (f"Here you are: {ARRAY}", "The reply is not JSON: Expecting value at line 1, column 1."),
        (f"{ARRAY} Enjoy.", "The reply is not JSON: Extra data at line 1, column 68."),
        (f"```\n{ARRAY}\n```\nor\n```\n{ARRAY}\n```", "The reply is not JSON: Extra data at line 2, column 1."),
        (f"```json\n{ARRAY}", "The code fence is not closed."),
        ("``````", "The reply is not JSON: Expecting value at line 1, column 1."),
        (ARRAY[:-2], "The reply is not JSON: Expecting ',' delimiter at line 1, column 65."),
        ("{}", "The reply is not a JSON array; put the objects into an array, even if there is only one."),
        ("null", "The reply is not a JSON array; put the objects into an array, even if there is only one."),
        ("[]", "The array is empty."),
        ('["Walk."]', 'Entry 0 of the array is not an object with "id", "content" and "rationale".'),
        ("[[]]", 'Entry 0 of the array is not an object with "id", "content" and "rationale".'),
        ("[{}]", '"content" of entry 0 is not a string.'),
        ('[{"content": null}]', '"content" of entry 0 is not a string.'),
        ('[{"content": ["Walk."]}]', '"content" of entry 0 is not a string.'),
        ('[{"content": " \\n "}]', '"content" of entry 0 is blank.'),
        ('[{"content": "a\\u0000b"}]', '"content" of entry 0 holds characters that are not text.'),
        ('[{"content": "\\ud800"}]', '"content" of entry 0 holds characters that are not text.'),
        ('[{"content": "a", "rationale": 1}]', '"rationale" of entry 0 is not a string.'),
        (json.dumps([{"content": "x" * 4_001}]), '"content" of entry 0 is longer than 4000 characters.'),
        ('[{"content": "a", "id": true}]', '"id" of entry 0 is not a string of 1 to 200 bytes on one line.'),
        ('[{"content": "a", "id": 1.5}]', '"id" of entry 0 is not a string of 1 to 200 bytes on one line.'),
        ('[{"content": "a", "id": ""}]', '"id" of entry 0 is not a string of 1 to 200 bytes on one line.'),
        ('[{"content": "a", "id": "a\\nb"}]', '"id" of entry 0 is not a string of 1 to 200 bytes on one line.'),
        (
            f'[{{"content": "a", "id": {"9" * 4_300}}}]',
            '"id" of entry 0 is not a string of 1 to 200 bytes on one line.',
        ),
        (f'[{{"content": "a", "id": {"9" * 4_301}}}]', "The reply holds a number that is too long."),
        ('[{"content": "a", "score": NaN}]', "The reply is not JSON: NaN is not a JSON number."),
        ('[{"content": "a", "score": -Infinity}]', "The reply is not JSON: -Infinity is not a JSON number."),
        ("[" * 100_000, "The reply is nested too deeply."),
        (
            '[{"content": "a", "id": "x"}, {"content": "b", "id": "x"}]',
            'The id "x" is used twice; give each tip an id of its own.',
        ),
        (
            '[{"content": "a", "id": "tip-1"}, {"content": "b"}]',
            'The id "tip-1" is used twice; give each tip an id of its own.',
        ),
        (
            '[{"content": "a", "id": "1"}, {"content": "b", "id": 1}]',
            'The id "1" is used twice; give each tip an id of its own.',
        ),
    ],
)
def test_invalid_replies(text: str, complaint: str) -> None:
    """Each kind of mistake has its own message, and the correction contains the message."""
    with pytest.raises(ReplyError) as caught:
        parse_reply(text, 5)

    assert str(caught.value) == complaint
    assert complaint in write_correction(caught.value)


def test_missing_ids_and_rationales() -> None:
    """A missing id is made from the index in the reply, and a number becomes text; a rationale is optional."""
    text = '[{"content": "a"}, {"id": null, "content": "b", "rationale": null}, {"id": 7, "content": "c"}]'

    assert parse_reply(text, 3) == (
        GeneratedTip("tip-0", "a", None),
        GeneratedTip("tip-1", "b", None),
        GeneratedTip("7", "c", None),
    )


def test_more_tips_than_requested() -> None:
    """The first n tips are used; later entries are not even checked."""
    text = '[{"content": "a"}, {"content": "b"}, {"content": "c"}, 7]'

    assert [tip.content for tip in parse_reply(text, 2)] == ["a", "b"]


@given(REPLY | ANY_TEXT, st.integers(1, 5))
def test_any_text_as_reply(text: str, n: int) -> None:
    """Any text gives either tips that can be stored unchanged, or a ReplyError."""
    try:
        tips = parse_reply(text, n)
    except ReplyError:
        return
    assert 1 <= len(tips) <= n
    assert len({tip.id for tip in tips}) == len(tips)
    for tip in tips:
        assert is_identifier(tip.id)
        assert tip.content.strip()
        for part in (tip.content, tip.rationale or ""):
            assert len(part) <= MAX_TEXT_CHARACTERS
            assert is_storable(part)


@given(st.lists(st.builds(GeneratedTip, ID, st.text('ab é\n"\\[`', max_size=9).map("x{}".format), st.none())))
def test_round_trip_of_tips(tips: list[GeneratedTip]) -> None:
    """Tips written as a JSON array are read back unchanged."""
    unique = list({tip.id: tip for tip in tips}.values()) or [WALK]
    text = json.dumps([{"id": tip.id, "content": tip.content, "rationale": tip.rationale} for tip in unique])

    assert parse_reply(text, len(unique)) == tuple(unique)


def test_schema_of_replies() -> None:
    """The schema requires an array of exactly n objects."""
    schema = tips_schema(4)

    assert (schema["type"], schema["minItems"], schema["maxItems"]) == ("array", 4, 4)
    assert json.loads(json.dumps(schema)) == schema


@pytest.mark.parametrize(
    ("configured", "versions"),
    [
        ("", []),
        (" , ,", []),
        ("v2-mentor", ["v2-mentor"]),
        (" v1 ,, v2-mentor,v3-few-shot ", ["v1", "v2-mentor", "v3-few-shot"]),
        ("v1,v1,v2-mentor", ["v1", "v1", "v2-mentor"]),
    ],
)
def test_parse_versions(configured: str, versions: list[str]) -> None:
    """Spaces and empty entries in the list are ignored."""
    assert parse_versions(configured) == versions
