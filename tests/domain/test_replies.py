"""Search of replies for the array of tips."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oo_ml.domain.identifiers import is_identifier, is_storable
from oo_ml.domain.replies import MAX_REPAIRED_CHARACTERS, read_broken_reply, read_reply, strip_reasoning
from oo_ml.domain.tips import MAX_TEXT_CHARACTERS, GeneratedTip, ReplyError

ARRAY = '[{"id": "walk", "content": "Walk a little.", "rationale": "Sun."}]'
DRAFT = '[{"content": "A draft."}]'
WALK = GeneratedTip("walk", "Walk a little.", "Sun.")
NOT_AN_ARRAY = "The reply is not a JSON array; put the objects into an array, even if there is only one."

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
    st.sampled_from(["", "```json\n", "<think>x</think>", "[THINK]", "Here: ```", " \n", '{"a":', "[{"]) | ANY_TEXT,
    st.lists(ENTRY, max_size=5) | ENTRY,
    st.sampled_from(["", "\n```", "```\nbye", " ", "}", ",]", "</think>", "\n``` ```"]) | ANY_TEXT,
)
TIPS = st.lists(
    st.builds(GeneratedTip, ID, st.text('ab é\n"\\[]{}<>/`', max_size=9).map("x{}".format), st.none()),
    min_size=1,
    unique_by=lambda tip: tip.id,
)


def dump(*tips: GeneratedTip) -> str:
    """Return tips as a JSON array."""
    return json.dumps([{"id": tip.id, "content": tip.content, "rationale": tip.rationale} for tip in tips])


@pytest.mark.parametrize(
    "text",
    [
        ARRAY,
        f"\n  {ARRAY}\n",
        f"\ufeff{ARRAY}",
        f"\ufeff```json\n{ARRAY}\n```",
        f"```json\n{ARRAY}\n```",
        f"```JSON {ARRAY}```",
        f"```{ARRAY}```",
        f"```json title='a [b]' {{1}}\n{ARRAY}\n```",
        f"`````\n{ARRAY}\n`````",
        f"~~~json\n{ARRAY}\n~~~",
        f"```json\n{ARRAY}",
        f"{ARRAY}\n```",
        f"Here you are:\n\n```\n{ARRAY}\n```\nHave a good day [really] {{yes}}.",
        f"Of course! {ARRAY}",
        f"{ARRAY} Enjoy.",
        f'{{"tips": {ARRAY}}}',
        f'Here: ```json\n{{"tips": {ARRAY}, "count": 1}}\n```',
        f"<answer>{ARRAY}</answer>",
        ARRAY.replace("Walk a", "Walk\\u0020a"),
    ],
)
def test_array_in_a_reply(text: str) -> None:
    """The array is found in fences of any kind, in prose and in an object."""
    assert read_reply(text, 3) == (WALK,)


@pytest.mark.parametrize(
    "before",
    [
        "<think>Two tasks [2], {a}.</think>",
        f"<think>\nMaybe {DRAFT}?\n</think>\n",
        f"Maybe {DRAFT}?\n</think>\n",
        f"<Thinking>Maybe {DRAFT}? </thinking>",
        f"<reasoning>```json\n{DRAFT}\n```</reasoning>",
        f"<seed:think>{DRAFT}</seed:think>",
        f"[THINK]{DRAFT}[/THINK]",
        f"◁think▷{DRAFT}◁/think▷",
        f"<|begin_of_thought|>{DRAFT}<|end_of_thought|>",
        f"<think>One </think> and <think>two {DRAFT}</think>",
        f"<think>[{{ never closed {DRAFT}</think>",
        f"I think of {DRAFT}. No, better: ",
    ],
)
@pytest.mark.parametrize("answer", [ARRAY, f"```json\n{ARRAY}\n```", f'Here: {{"tips": {ARRAY}}} Enjoy!'])
def test_reasoning_before_the_array(before: str, answer: str) -> None:
    """Reasoning is no answer, with its tags or with the closing tag alone; the last array counts."""
    assert read_reply(before + answer, 3) == (WALK,)


@pytest.mark.parametrize(
    "around", ["{}", "```json\n{}\n```", "<think>Hm.</think>{}", "Sure: {} Bye.", '{{"tips": {}}}']
)
@pytest.mark.parametrize(
    "content", ["Write </think> in it.", "<think>Rest.</think>", "Use ```x``` or ~~~.", "a [b] {c}"]
)
def test_tags_and_fences_inside_a_tip(around: str, content: str) -> None:
    """A tag or a fence inside a string is a part of the tip."""
    [tip] = read_reply(around.format(json.dumps([{"content": content}])), 1)
    assert tip.content == content


def test_line_break_inside_a_string() -> None:
    """A line break or tab inside a string is a part of the tip."""
    assert read_reply('[{"content": "Walk\n\ta little."}]', 1)[0].content == "Walk\n\ta little."


@pytest.mark.parametrize("text", [f"<think>Maybe {DRAFT} or", f"[THINK] {DRAFT}", f"\ufeff <reasoning>{DRAFT}"])
def test_reasoning_that_was_cut(text: str) -> None:
    """If a reply was cut while the model was reasoning, there is no answer in it."""
    with pytest.raises(ReplyError, match="The reply is empty"):
        read_reply(text, 3, is_cut=True)
    assert read_reply(text, 3)[0].content == "A draft."


def test_array_of_a_reply_that_was_cut() -> None:
    """An array that was complete when the reply was cut counts."""
    assert read_reply(f"<think>{DRAFT}</think>{ARRAY} I chose", 3, is_cut=True) == (WALK,)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "The reply is empty."),
        ("\ufeff\n", "The reply is empty."),
        ("<think>Hm.</think>", "The reply is empty."),
        (f"<think>{DRAFT}</think> Sorry.", "The reply is not JSON: Expecting value at line 1, column 1."),
        ("Sure, here is a tip.", "The reply is not JSON: Expecting value at line 1, column 1."),
        (ARRAY[:-2], "The reply is not JSON: Expecting ',' delimiter at line 1, column 65."),
        ('[{"content": "a"},]', "The reply is not JSON: Expecting value at line 1, column 19."),
        (
            '{"content": "a"}',
            "The reply is not a JSON array; put the objects into an array, even if there is only one.",
        ),
        (
            'A: {"content": "a"}, {"content": "b"}',
            "The reply is not a JSON array; put the objects into an array, even if there is only one.",
        ),
        ("[]", "The array is empty."),
        ('["Walk."]', 'Entry 0 of the array is not an object with "id", "content" and "rationale".'),
        ('Tips: [{"content": 7}]', '"content" of entry 0 is not a string.'),
        (f'[{{"content": "a", "id": {"9" * 4_301}}}]', "The reply holds a number that is too long."),
        ('[{"content": "a", "score": NaN}]', "The reply is not JSON: NaN is not a JSON number."),
        ('[{"content": "a", "score": -Infinity}]', "The reply is not JSON: -Infinity is not a JSON number."),
        ("[" * 100_000, "The reply is nested too deeply."),
    ],
)
def test_invalid_replies(text: str, complaint: str) -> None:
    """The message says what is wrong at the first place where JSON may begin."""
    with pytest.raises(ReplyError) as caught:
        read_reply(text, 5)
    assert str(caught.value) == complaint


def test_last_array_that_has_tips() -> None:
    """Of several arrays the last counts that has tips."""
    assert read_reply(f'{DRAFT} {ARRAY} [{{"note": "Enjoy."}}]', 3) == (WALK,)


@pytest.mark.parametrize(
    ("text", "array"),
    [
        ("[{'content': 'a'}]", "[{'content': 'a'}]"),
        (f"<think>{DRAFT}</think> Sure: [{{a}},\n ] Bye", "[{a},\n ]"),
        ('{"tips": [{a}, {b}]}', "[{a}, {b}]"),
    ],
)
def test_array_that_is_repaired(text: str, array: str) -> None:
    """Only the array is repaired, from its first object to the end of its last; the result must have tips."""
    given: list[str] = []

    def repair(broken: str) -> object:
        given.append(broken)
        return [{"content": "Mended."}]

    assert read_broken_reply(text, 1, repair) == (GeneratedTip("tip-0", "Mended.", None),)
    assert given == [array]


@pytest.mark.parametrize("mended", [[{"content": "a", "b": 1}], [{"content": ""}], [], "", {"content": "a"}])
def test_bad_repair(mended: object) -> None:
    """A repair that gives another shape, or unknown fields, is no answer."""
    assert read_broken_reply("[{a}]", 1, lambda _: mended) is None


@pytest.mark.parametrize(
    "text", ["", "Sure.", '[{"content": "a"}, {"content": "b', "} ] [ {", f"[{{{'x' * MAX_REPAIRED_CHARACTERS}}}]"]
)
def test_replies_that_are_not_repaired(text: str) -> None:
    """An array without an end is not repaired, nor is a very long one."""
    assert read_broken_reply(text, 1, lambda _: [{"content": "Made up."}]) is None


@pytest.mark.parametrize("text", ["<think>a</think> b ", " b", f"x</think>\n{ARRAY}"])
def test_strip_reasoning(text: str) -> None:
    """The part after the reasoning is left, without space around it."""
    assert strip_reasoning(text) in {"b", ARRAY}


@pytest.mark.parametrize(
    "text",
    [
        '[{"a":' * 150_000,
        "[{" * 500_000,
        "[[[[" + '{"a":1},' * 120_000,
        '[{"' * 300_000,
        "</" * 500_000,
        "<|" * 500_000,
        "<" + "think" * 200_000,
        "</" + "think" * 200_000,
        "<|end_of_" + "think" * 200_000,
        "}" + " " * 1_000_000,
        "[{}" + ", " * 500_000,
        "[" + " " * 1_000_000,
    ],
)
@pytest.mark.parametrize("is_cut", [False, True])
def test_hostile_replies(text: str, is_cut: bool) -> None:
    """A reply of a megabyte is refused. A search that reads it again from each place would take hours."""
    with pytest.raises(ReplyError):
        read_reply(text, 3, is_cut=is_cut)
    assert read_broken_reply(text, 3, lambda _: None) is None
    assert len(strip_reasoning(text)) <= len(text)


@given(REPLY | ANY_TEXT, st.integers(1, 5), st.booleans())
def test_any_text_as_reply(text: str, n: int, is_cut: bool) -> None:
    """Any text gives either tips that can be stored unchanged, or a ReplyError."""
    try:
        tips = read_reply(text, n, is_cut=is_cut)
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


@given(TIPS, st.sampled_from(["{}", "```json\n{}\n```", "<think>[</think>{}", "I say: {} Bye.", '{{"tips": {}}}']))
def test_round_trip_of_tips(tips: list[GeneratedTip], around: str) -> None:
    """Tips written as a JSON array are read back unchanged, whatever stands around the array."""
    assert read_reply(around.format(dump(*tips)), len(tips)) == tuple(tips)
